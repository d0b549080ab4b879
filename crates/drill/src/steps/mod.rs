//! What the steps of a drill do. One file a group of actions; faults are in [`crate::faults`].

mod change;
mod drain;
mod wait;

use crate::faults::Call;
use crate::file::{Action, FaultCall, Step};
use crate::record::EntryKind;
use crate::scene::Scene;
use crate::view;

pub(crate) use change::apply;
pub(crate) use wait::{complete, settle};

/// Does one step; its error ends the drill.
pub(crate) async fn perform(scene: &Scene, step: &Step) -> Result<(), String> {
    let say = |about: &str, text: String| scene.recorder().say(EntryKind::Step, about, text);
    match &step.action {
        Action::Fault(call) => fault(scene, step, call).await,
        Action::Undo(name) => {
            let which = (name != "all").then_some(name.as_str());
            say("", if name == "all" { "undo all faults".to_owned() } else { format!("undo {name}") });
            scene.undo(which, step.identity()).await;
            Ok(())
        }
        Action::Apply(objects) => apply(scene, objects).await,
        Action::Delete(objects) => change::delete(scene, objects).await,
        Action::Patch(call) => change::patch(scene, call).await,
        Action::Scale(call) => change::scale(scene, call).await,
        Action::Restart(workload) => change::restart(scene, workload).await,
        Action::Cordon(target) => drain::cordon(scene, target, true).await,
        Action::Uncordon(target) => drain::cordon(scene, target, false).await,
        Action::Drain(call) => drain::drain(scene, call).await,
        Action::View(line) => {
            let command = view::Command::parse(line, scene.kinds())?;
            let line = line.strip_prefix("kubectl ").unwrap_or(line);
            // What a person would see, an error too: a view never ends a drill.
            let shown = match scene.ask(view::run(&scene.stage().client, &command)).await {
                Ok(table) => table,
                Err(error) => format!("Error from server: {error}"),
            };
            scene.recorder().say(EntryKind::View, &format!("kubectl {line}"), shown);
            Ok(())
        }
        Action::WaitFor(condition) => wait::wait(scene, condition).await,
        Action::Sleep(time) => {
            say("", format!("wait {time}"));
            scene.stage().world.sleep(time.duration()).await;
            Ok(())
        }
        Action::Note(text) => {
            say("", text.clone());
            Ok(())
        }
    }
}

async fn fault(scene: &Scene, step: &Step, call: &FaultCall) -> Result<(), String> {
    let known = Call::of(call).ok_or_else(|| format!("there is no fault {:?}", call.fault))?;
    let at_ms = scene.recorder().now_ms();
    let outcome = known.fault.inflict(scene, &known).await;
    let told = scene.take_told();
    let text = match (&outcome, told.text.as_str()) {
        (Ok(()), "") => call.fault.clone(),
        (Ok(()), text) => format!("{}: {text}", call.fault),
        (Err(error), _) => format!("{} failed: {error}", call.fault),
    };
    scene.recorder().fault(at_ms, &told.about, text, told.machines);
    outcome.map_err(|error| format!("step {}: {error}", step.identity()))?;
    if !known.fault.lasts() {
        return scene.forget(step.identity()).await.map_err(|error| error.to_string());
    }
    if let Some(time) = call.lasting {
        let (later, identity) = (scene.clone(), step.identity().to_owned());
        scene.later(async move {
            later.stage().world.sleep(time.duration()).await;
            later.undo(Some(&identity), &identity).await;
        });
    }
    Ok(())
}
