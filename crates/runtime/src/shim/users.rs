//! User and groups of a process: numbers from the pod, names from the image's `/etc/passwd`.

use std::collections::BTreeSet;
use std::fs;

use super::protocol::ProcessSpec;

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All further groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Looks the process's user up in the root file system of this process.
pub fn resolve(spec: &ProcessSpec) -> Result<Identity, String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    find(spec, &passwd, &group)
}

/// The rule, as containerd's CRI and runc's `user.GetExecUser` have it.
fn find(spec: &ProcessSpec, passwd: &str, group: &str) -> Result<Identity, String> {
    let security = &spec.security;
    let (image_user, image_group) = spec.image_user.split_once(':').unwrap_or((&spec.image_user, ""));
    let (user, group_name) = match (security.run_as_user, &security.run_as_user_name) {
        (Some(uid), _) => (uid.to_string(), ""),
        (None, Some(name)) if !name.is_empty() => (name.clone(), ""),
        _ => (image_user.to_owned(), image_group),
    };
    let user = if user.is_empty() { "0".to_owned() } else { user };
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 4 && (fields[0] == user || (user.parse::<u32>().is_ok() && fields[2] == user)));
    let uid: u32 = match &entry {
        Some(fields) => fields[2].parse().map_err(|_| format!("bad /etc/passwd entry of {user}"))?,
        None => user.parse().map_err(|_| format!("unable to find user {user}: no matching entries in passwd file"))?,
    };
    let mut gid: u32 = entry.as_ref().and_then(|fields| fields[3].parse().ok()).unwrap_or(0);
    if !group_name.is_empty() {
        gid = match group_name.parse() {
            Ok(number) => number,
            Err(_) => group
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|fields| fields.len() >= 3 && fields[0] == group_name)
                .and_then(|fields| fields[2].parse().ok())
                .ok_or_else(|| format!("unable to find group {group_name}: no matching entries in group file"))?,
        };
    }
    if let Some(number) = security.run_as_group {
        gid = u32::try_from(number).map_err(|_| format!("group {number} is out of range"))?;
    }
    let name = entry.as_ref().map(|fields| fields[0]);
    let mut groups: BTreeSet<u32> = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 4 && name.is_some_and(|name| fields[3].split(',').any(|member| member == name)))
        .filter_map(|fields| fields[2].parse().ok())
        .collect();
    groups.insert(gid);
    groups.extend(security.supplemental_groups.iter().filter_map(|number| u32::try_from(*number).ok()));
    let home = entry.as_ref().and_then(|fields| fields.get(5)).filter(|home| !home.is_empty()).map_or("/", |home| home);
    Ok(Identity { uid, gid, groups: groups.into_iter().collect(), home: home.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_world::containers::Security;

    fn check(image_user: &str, security: Security, wanted: Result<(u32, u32, &[u32], &str), &str>) {
        let spec = ProcessSpec {
            argv: vec!["x".to_owned()],
            env: Vec::new(),
            cwd: "/".into(),
            image_user: image_user.to_owned(),
            security,
            tty: false,
            oom_score_adj: 0,
            procs_files: Vec::new(),
        };
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/false\n";
        let group = "root:x:0:\nwww:x:34:\nlogs:x:40:web,other\n";
        let got = find(&spec, passwd, group);
        match (&got, wanted) {
            (Ok(identity), Ok((uid, gid, groups, home))) => {
                assert_eq!((identity.uid, identity.gid, &identity.groups[..], &identity.home[..]), (uid, gid, groups, home));
            }
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            _ => panic!("{image_user}: {got:?}"),
        }
    }

    #[test]
    fn users() {
        let plain = Security::default;
        check("", plain(), Ok((0, 0, &[0], "/root")));
        check("web", plain(), Ok((33, 34, &[34, 40], "/srv")));
        check("33:logs", plain(), Ok((33, 40, &[40], "/srv")));
        check("web", Security { run_as_user: Some(1000), ..plain() }, Ok((1000, 0, &[0], "/")));
        check(
            "",
            Security { run_as_user: Some(33), run_as_group: Some(7), supplemental_groups: vec![9], ..plain() },
            Ok((33, 7, &[7, 9, 40], "/srv")),
        );
        check("ghost", plain(), Err("unable to find user ghost"));
    }
}
