//! Links, addresses, routes and settings of one network namespace, as a kernel keeps them: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;

use daruma_world::links::{Link, LinkAddress, ListedRoute, MacAddress, Prefix, Route, Target};

/// One namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) links: BTreeMap<u32, Link>,
    addresses: BTreeSet<(u32, Prefix)>,
    routes: BTreeMap<(Prefix, u32), ListedRoute>,
    neighbours: BTreeMap<(u32, Ipv4Addr), MacAddress>,
    parameters: BTreeMap<String, String>,
    next_index: u32,
}

pub(super) fn failed(kind: io::ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text.to_owned())
}

impl Default for Namespace {
    /// A new one, with the loopback link only.
    fn default() -> Self {
        let mut namespace = Self {
            links: BTreeMap::new(),
            addresses: BTreeSet::new(),
            routes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            parameters: BTreeMap::new(),
            next_index: 0,
        };
        namespace.add("lo", "", 65_536, None);
        namespace
    }
}

impl Namespace {
    /// Adds a link that is down; gives its number.
    pub(super) fn add(&mut self, name: &str, kind: &str, mtu: u32, mac: Option<MacAddress>) -> u32 {
        self.next_index += 1;
        let index = self.next_index;
        let (name, kind) = (name.to_owned(), kind.to_owned());
        self.links.insert(index, Link { index, name, kind, up: false, mtu, mac, rx_bytes: 0, tx_bytes: 0 });
        index
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.links.values().find(|link| link.name == name).map(|link| link.index)
    }

    pub(super) fn link(&mut self, name: &str) -> io::Result<&mut Link> {
        let found = self.links.values_mut().find(|link| link.name == name);
        found.ok_or_else(|| failed(io::ErrorKind::NotFound, "No such device"))
    }

    pub(super) fn remove(&mut self, index: u32) {
        let Some(link) = self.links.remove(&index) else { return };
        self.addresses.retain(|(of, _)| *of != index);
        self.neighbours.retain(|(of, _), _| *of != index);
        self.forget_routes(&link.name);
        let below = format!("/conf/{}/", link.name);
        self.parameters.retain(|name, _| !name.contains(&below));
    }

    fn forget_routes(&mut self, name: &str) {
        self.routes.retain(|_, listed| !matches!(&listed.route.target, Target::Link { link, .. } if link == name));
    }

    /// Turning a link off takes its routes away; turning it on brings those to its own networks back.
    pub(super) fn set_up(&mut self, name: &str, up: bool) -> io::Result<()> {
        let link = self.link(name)?;
        let (index, before) = (link.index, std::mem::replace(&mut link.up, up));
        if before && !up {
            self.forget_routes(name);
            self.neighbours.retain(|(of, _), _| *of != index);
        } else if up && !before {
            let own: Vec<Prefix> = self.addresses.iter().filter(|(of, _)| *of == index).map(|(_, prefix)| *prefix).collect();
            for prefix in own {
                self.connect(name, prefix);
            }
        }
        Ok(())
    }

    /// The route to a link's own network.
    fn connect(&mut self, name: &str, prefix: Prefix) {
        let source = Some(prefix.address);
        if prefix.length < 32 && name != "lo" {
            let target = Target::Link { link: name.to_owned(), via: None, on_link: false, source };
            let route = Route { destination: prefix.network(), metric: 0, target };
            self.routes.entry((prefix.network(), 0)).or_insert(ListedRoute { route, ours: false });
        }
    }

    pub(super) fn add_address(&mut self, name: &str, prefix: Prefix) -> io::Result<()> {
        let link = self.link(name)?;
        let (index, up) = (link.index, link.up);
        self.addresses.insert((index, prefix));
        if up {
            self.connect(name, prefix);
        }
        Ok(())
    }

    pub(super) fn remove_address(&mut self, name: &str, prefix: Prefix) -> io::Result<()> {
        let index = self.link(name)?.index;
        if self.addresses.remove(&(index, prefix)) {
            let gone = |listed: &ListedRoute| matches!(&listed.route.target, Target::Link { source, .. } if *source == Some(prefix.address));
            self.routes.retain(|_, listed| !gone(listed));
        }
        Ok(())
    }

    pub(super) fn set_route(&mut self, route: Route, ours: bool) -> io::Result<()> {
        if route.destination != route.destination.network() {
            return Err(failed(io::ErrorKind::InvalidInput, "Invalid argument"));
        }
        if let Target::Link { link, via, on_link, source } = &route.target {
            if !self.link(link)?.up {
                return Err(failed(io::ErrorKind::NetworkDown, "Network is down"));
            }
            if let Some(router) = via.filter(|_| !on_link)
                && !self.is_neighbour(link, router)
            {
                return Err(failed(io::ErrorKind::NetworkUnreachable, "Network is unreachable"));
            }
            if let Some(source) = source
                && !self.addresses.iter().any(|(_, prefix)| prefix.address == *source)
            {
                return Err(failed(io::ErrorKind::InvalidInput, "Invalid argument"));
            }
        }
        self.routes.insert((route.destination, route.metric), ListedRoute { route, ours });
        Ok(())
    }

    /// Some route says that `router` is directly on the link.
    fn is_neighbour(&self, name: &str, router: Ipv4Addr) -> bool {
        let directly = |route: &Route| matches!(&route.target, Target::Link { link, via: None, .. } if link == name);
        self.routes.values().any(|listed| listed.route.destination.contains(router) && directly(&listed.route))
    }

    pub(super) fn delete_route(&mut self, route: &Route) {
        let key = (route.destination, route.metric);
        if self.routes.get(&key).is_some_and(|listed| listed.ours) {
            self.routes.remove(&key);
        }
    }

    pub(super) fn set_neighbour(&mut self, name: &str, address: Ipv4Addr, mac: MacAddress) -> io::Result<()> {
        let index = self.link(name)?.index;
        self.neighbours.insert((index, address), mac);
        Ok(())
    }

    /// Settings below `conf` and `neigh` exist for each link, for `all` and for `default`.
    pub(super) fn set_parameter(&mut self, name: &str, value: String, optional: bool) -> io::Result<()> {
        let parts: Vec<&str> = name.split('/').collect();
        let exists = match parts.as_slice() {
            ["ipv4", "conf" | "neigh", "all" | "default", _] | ["ipv4", _] => true,
            ["ipv4", "conf" | "neigh", link, _] => self.find(link).is_some(),
            // IPv4 only.
            _ => false,
        };
        if exists {
            self.parameters.insert(name.to_owned(), value);
        }
        if exists || optional { Ok(()) } else { Err(failed(io::ErrorKind::NotFound, "No such file or directory")) }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    pub(super) fn list_addresses(&self) -> Vec<LinkAddress> {
        let named =
            |(index, prefix): &(u32, Prefix)| Some(LinkAddress { link: self.links.get(index)?.name.clone(), prefix: *prefix });
        self.addresses.iter().filter_map(named).collect()
    }

    pub(super) fn list_routes(&self) -> Vec<ListedRoute> {
        self.routes.values().cloned().collect()
    }

    /// The longest matching route, of those the one with the lowest metric.
    pub(super) fn lookup(&self, destination: Ipv4Addr) -> Option<&Route> {
        let matching = self.routes.values().map(|listed| &listed.route).filter(|route| route.destination.contains(destination));
        matching.max_by_key(|route| (route.destination.length, u32::MAX - route.metric))
    }
}
