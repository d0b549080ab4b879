//! Capabilities of a container's processes.

use daruma_world::containers::Security;

use super::process::{ChildResult, check, context};

/// Names by number: `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// What a container has when nothing is said: containerd `pkg/oci/spec.go` defaultUnixCaps.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];
const ALL: u64 = (1 << NAMES.len()) - 1;

fn bit(name: &str) -> u64 {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if name == "ALL" {
        return ALL;
    }
    NAMES.iter().position(|known| *known == name).map_or(0, |number| 1 << number)
}

/// The set that a container's processes are to have, as a bit mask.
pub fn wanted(security: &Security) -> u64 {
    if security.privileged {
        return ALL;
    }
    let mut set = DEFAULT.iter().fold(0, |set, name| set | bit(name));
    // ALL first, so that single names refine it: containerd's WithCapabilities order.
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    if all(&security.add_capabilities) {
        set = ALL;
    }
    if all(&security.drop_capabilities) {
        set = 0;
    }
    for name in security.add_capabilities.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        set |= bit(name);
    }
    for name in security.drop_capabilities.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        set &= !bit(name);
    }
    set
}

/// Takes all others out of the bounding set.
pub fn limit_bounding(set: u64) -> ChildResult<()> {
    for (number, name) in NAMES.iter().enumerate() {
        if set & (1 << number) != 0 {
            continue;
        }
        // SAFETY: plain call on this process; EINVAL means that the kernel does not know the number.
        if let Err(error) = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }.into())
            && error.raw_os_error() != Some(libc::EINVAL)
        {
            return Err(format!("drop capability {name}: {error}"));
        }
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets permitted and effective to what of `set` this process still has.
pub fn set(set: u64) -> ChildResult<()> {
    // _LINUX_CAPABILITY_VERSION_3
    let mut header = Header { version: 0x2008_0522, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: header and sets have the layout of linux/capability.h for version 3 and live through the calls.
    unsafe {
        context("capget", check(libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr())))?;
        for (half, value) in sets.iter_mut().zip([set as u32, (set >> 32) as u32]) {
            half.permitted &= value;
            half.effective = half.permitted;
            half.inheritable = 0;
        }
        context("capset", check(libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(wanted(&Security::default()) & bit("SYS_ADMIN"), 0);
        assert_eq!(wanted(&Security { privileged: true, ..Security::default() }), ALL);
        let bind = Security {
            drop_capabilities: names(&["ALL"]),
            add_capabilities: names(&["NET_BIND_SERVICE"]),
            ..Security::default()
        };
        assert_eq!(wanted(&bind), bit("NET_BIND_SERVICE"));
        let most = Security { drop_capabilities: names(&["MKNOD"]), add_capabilities: names(&["ALL"]), ..Security::default() };
        assert_eq!(wanted(&most), ALL & !bit("CAP_MKNOD"));
    }
}
