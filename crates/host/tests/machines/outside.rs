//! The machines as somebody outside works with them.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use daruma_world::machines::{Ability, MachineError, Machines, PowerState, Pressure, Program, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Test;
use crate::agent::PORT;
use crate::bed::{Bed, machine, run};

pub const ALL: &[Test] = &[
    ("outside::power_is_worked_from_outside", power_is_worked_from_outside),
    ("outside::sockets_are_opened_inside_a_machine", sockets_are_opened_inside_a_machine),
    ("outside::machines_come_and_go", machines_come_and_go),
];

fn power_is_worked_from_outside() -> Result<()> {
    let bed = Bed::new("outside", 2)?;
    let machines = bed.machines()?;
    let power = || -> Result<Vec<PowerState>> { Ok(run(machines.list())?.iter().map(|machine| machine.power).collect()) };
    let first = run(machines.list())?.remove(0);
    ensure!((first.cpu_millis, first.memory_bytes, first.name.as_str()) == (1500, 128 << 20, "worker-0"), "{first:?}");
    run(machines.power_off("worker-0", false))?;
    ensure!(power()? == [PowerState::Off, PowerState::On], "{:?}", power()?);
    let refused = run(machines.hang("worker-0")).err().context("it is off")?;
    ensure!(refused.to_string() == "worker-0 is off", "{refused}");
    run(machines.power_on("worker-0"))?;
    run(machines.hang("worker-0"))?;
    ensure!(power()? == [PowerState::Hung, PowerState::On], "{:?}", power()?);
    let refused = run(machines.press("worker-0", Pressure::Cpu { processes: 1 })).err().context("it is hung")?;
    ensure!(refused.to_string() == "worker-0 is hung: nothing in it moves; resume it first", "{refused}");
    ensure!(run(machines.undo())? == ["let worker-0 go on"], "a hang is taken back");
    for _ in 0..2 {
        run(machines.reset("worker-0"))?;
        run(machines.reboot("worker-0"))?;
    }
    run(machines.shutdown("worker-0"))?;
    ensure!(power()? == [PowerState::Off, PowerState::On], "{:?}", power()?);
    let torn = run(machines.power_off("worker-1", true)).err().context("no disk is torn here")?;
    ensure!(matches!(torn.downcast_ref(), Some(MachineError::Unsupported(_))), "{torn}");
    ensure!(power()? == [PowerState::Off, PowerState::On], "nothing was touched");
    ensure!(machines.supports(&Ability::ClockOffset).is_err() && machines.supports(&Ability::Hang).is_ok(), "abilities");
    let stop = |service: &str| machines.supports(&Ability::Signal(&Program::Service(service.to_owned()), Signal::Stop));
    ensure!(stop("agent").is_ok(), "the service that there is");
    let refused = stop("container-engine").err().context("there is none")?;
    ensure!(refused.to_string() == "the machines have no service \"container-engine\"; there is agent", "{refused}");
    Ok(())
}

fn sockets_are_opened_inside_a_machine() -> Result<()> {
    let bed = Bed::new("sockets", 2)?;
    let machines = bed.machines()?;
    let (zero, one) = (bed.address("worker-0")?, bed.address("worker-1")?);
    let asked = |from: Option<&str>, to: SocketAddr| {
        let net = machines.net(from);
        run(async move {
            let mut stream = net?.connect(to).await?;
            stream.write_all(b"read /etc/hostname\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        })
    };
    ensure!(asked(None, (one, PORT).into())? == "worker-1\n", "from the host");
    ensure!(asked(Some("worker-0"), (one, PORT).into())? == "worker-1\n", "from one machine to another");
    ensure!(asked(Some("worker-0"), ([127, 0, 0, 1], PORT).into())? == "worker-0\n", "the loopback is the machine's own");
    let net = machines.net(Some("worker-0"))?;
    let peer = run(async {
        let mut listener = net.listen((zero, 0).into()).await?;
        let at = listener.local_addr()?;
        let (accepted, connected) = futures::join!(listener.accept(), machines.net(Some("worker-1"))?.connect(at));
        connected?;
        let datagrams = (net.bind_udp((zero, 0).into()).await?, machines.net(Some("worker-1"))?.bind_udp((one, 0).into()).await?);
        datagrams.0.send_to(b"hello", datagrams.1.local_addr()?).await?;
        let mut buffer = [0; 16];
        let (count, from) = datagrams.1.recv_from(&mut buffer).await?;
        ensure!(&buffer[..count] == b"hello" && from.ip() == zero, "{from}");
        anyhow::Ok(accepted?.1.ip())
    })?;
    ensure!(peer == one, "{peer}");
    run(machines.power_off("worker-0", false))?;
    let dark = asked(Some("worker-0"), (one, PORT).into()).err().context("it is off")?;
    ensure!(dark.to_string() == "worker-0 is off", "{dark}");
    Ok(())
}

fn machines_come_and_go() -> Result<()> {
    let mut bed = Bed::new("come", 1)?;
    let machines = bed.machines()?;
    let program = bed.config.machines[0].binds[0].host.clone();
    let spec = machine(&bed.config.cluster, 1, bed.config.subnet, program);
    let image = bed.config.files().machines.join("worker-1/disk.img");
    let twice = run(machines.add(bed.config.machines[0].clone())).err().context("there is one")?;
    ensure!(twice.to_string() == "there is a machine worker-0 already", "{twice}");
    for _ in 0..2 {
        run(machines.add(spec.clone()))?;
        bed.config.machines.push(spec.clone());
        bed.ready("worker-1")?;
        ensure!(bed.relay("worker-0", "worker-1")? == "worker-1\n" && image.exists(), "it is like the others");
        run(machines.remove("worker-1"))?;
        bed.config.machines.pop();
        ensure!(!image.exists() && run(machines.list())?.len() == 1, "nothing is left");
    }
    let mut broken = spec;
    broken.binds[0].host = "/nowhere".into();
    let problem = run(machines.add(broken)).err().context("it cannot boot")?;
    ensure!(problem.to_string().contains("it could not boot"), "{problem}");
    let unknown = run(machines.remove("worker-7")).err().context("there is none")?;
    ensure!(unknown.to_string().contains("there is no machine \"worker-7\""), "{unknown}");
    ensure!(bed.tell("worker-0", "pid")?.parse::<u32>().is_ok(), "the other one lives");
    Ok(())
}
