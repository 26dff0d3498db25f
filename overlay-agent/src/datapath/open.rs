//! Loading and attaching.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use aya::maps::DevMap;
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use overlay_common::layout::{Vtep, vtep_flags};
use overlay_common::maps::{
    ALL, FROM_ENDPOINT, FROM_FALLBACK, FROM_SERVICE, FROM_UNDERLAY, SERVICE, TO_UNDERLAY,
    UNDERLAY_FILTER,
};
use overlay_common::net::{IpKey, MacAddr};
use tracing::info;

use super::attach::{self, Hook, Undo};
use super::decap::{self, Decap, DecapMode};
use super::error::{DatapathError, PinContext as _};
use super::headroom::Headroom;
use super::object::OBJECT;
use super::paths::{self, Paths};
use super::programs::{self, classifier, filter};
use super::sys::PinnedLink;
use super::tables::Tables;
use super::xdp::{self, XdpMode};
use super::{detach, drop_log, shape};
use crate::host::link::{Link, XdpHook};
use crate::host::underlay::{Underlay, Vteps};
use crate::host::{Netlink, Owner, checks, endpoint, fallback, headroom};

/// What the programs are loaded and attached for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub underlay: Underlay,
    /// UDP port of the tunnels, on every host the same.
    pub port: u16,
    pub xdp: XdpMode,
    pub decap: DecapMode,
    /// Whether drops are logged, through tracing's target `drops`.
    pub log_drops: bool,
}

/// The loaded data path. Dropping it leaves everything in place.
#[derive(Debug)]
pub struct Datapath {
    ebpf: Ebpf,
    paths: Paths,
    netlink: Netlink,
    /// The maps.
    pub tables: Tables,
    /// Where `underlay_filter` runs.
    pub xdp: Option<XdpHook>,
    /// Where frames from peers are decapsulated.
    pub decap: Decap,
    /// The fallback device.
    pub fallback_ifindex: u32,
    headroom: Headroom,
    /// What the programs know of this host.
    vtep: Vtep,
    /// The device that the programs of the underlay are on.
    underlay: u32,
    mode: XdpMode,
    decap_mode: DecapMode,
}

impl Datapath {
    /// Loads the programs and attaches them, or takes over from an earlier run: its maps are
    /// kept, its programs replaced in place, without a packet lost. On an error what this call
    /// has made is removed again.
    ///
    /// Has to be called on a tokio runtime, in the network namespace of the underlay.
    pub async fn open(settings: &Settings, paths: Paths) -> Result<Self, DatapathError> {
        checks::require(paths.bpffs())?;
        shape::check(OBJECT, &paths)?;
        let netlink = Netlink::open()?;
        let underlay = device(&netlink, &settings.underlay.link.name).await?;
        let mode = decap::xdp_mode(settings.decap, settings.xdp, &underlay)?;
        let mode = xdp::check_foreign(mode, &underlay, &paths)?;

        let owner = Owner::new(paths.bpffs());
        let device = fallback::ensure(&netlink, &owner, settings.port).await?;
        let underlay_ifindex = underlay.ifindex;
        let mut undo = Undo::default();
        let opened = Loading {
            settings,
            paths: &paths,
            netlink: &netlink,
            owner,
            underlay,
            mode,
            fallback_ifindex: device.ifindex,
        }
        .run(&mut undo)
        .await;
        match opened {
            Ok(Loaded {
                mut ebpf,
                tables,
                xdp,
                decap,
                vtep,
                headroom,
            }) => {
                if settings.log_drops {
                    drop_log::follow(&mut ebpf);
                }
                Ok(Self {
                    ebpf,
                    paths,
                    netlink,
                    tables,
                    xdp,
                    decap,
                    fallback_ifindex: device.ifindex,
                    headroom,
                    vtep,
                    underlay: underlay_ifindex,
                    mode,
                    decap_mode: settings.decap,
                })
            }
            Err(error) => {
                undo.run(&netlink).await;
                if device.created {
                    // The error that led here is the one that matters.
                    let _ = headroom::remove(&netlink, &Owner::new(paths.bpffs())).await;
                    let _ = netlink.delete_link(device.ifindex).await;
                }
                Err(error)
            }
        }
    }

    /// Opens the maps of a data path that is already loaded, by whomever.
    pub fn maps_only(paths: &Paths) -> Result<Tables, DatapathError> {
        Ok(Tables::open(paths)?)
    }

    /// Whether the programs of the underlay are on their device, by whomever.
    pub fn is_attached(paths: &Paths) -> bool {
        let link = PinnedLink::open(&paths.link(paths::FROM_UNDERLAY));
        let device = link.ok().flatten().and_then(|link| link.info().ok());
        device.is_some_and(|info| info.ifindex != 0)
    }

    /// Puts `from_endpoint` on the host side of an endpoint's veth. Doing it again is no error. A
    /// device that was up without it is taken down, and left so.
    ///
    /// Returns the device's ifindex, the key of its endpoint record.
    pub async fn attach_endpoint(&mut self, device: &str) -> Result<u32, DatapathError> {
        let link = self::device(&self.netlink, device).await?;
        let program = classifier(&mut self.ebpf, FROM_ENDPOINT)?;
        Hook {
            program: FROM_ENDPOINT,
            device: &link,
            pin: self.paths.endpoint_link(device),
            way: TcAttachType::Ingress,
        }
        .attach_guard(&self.netlink, program, &mut Undo::default())
        .await?;
        self.headroom.reserve(&self.netlink, &link).await;
        Ok(link.ifindex)
    }

    /// Makes a device, which is down, the way from endpoints to the agent.
    pub async fn open_service(&mut self, device: &str) -> Result<(), DatapathError> {
        let link = self::device(&self.netlink, device).await?;
        let program = classifier(&mut self.ebpf, FROM_SERVICE)?;
        Hook {
            program: FROM_SERVICE,
            device: &link,
            pin: self.paths.link(paths::FROM_SERVICE),
            way: TcAttachType::Ingress,
        }
        .attach_guard(&self.netlink, program, &mut Undo::default())
        .await?;
        self.netlink.set_up(link.ifindex, device).await?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| DatapathError::Service {
            device: device.to_owned(),
            source,
        };
        let map = self.ebpf.map_mut(SERVICE);
        let map = map.ok_or(DatapathError::NoProgram(SERVICE))?;
        let mut map = DevMap::try_from(map).map_err(|error| failed(error.into()))?;
        map.set(0, link.ifindex, None, 0)
            .map_err(|error| failed(error.into()))
    }

    /// Takes the program off an endpoint's device, whether or not that is still there. Once it
    /// is gone: what is left has nothing to judge its frames.
    pub fn detach_endpoint(&self, device: &str) -> Result<(), DatapathError> {
        let pin = self.paths.endpoint_link(device);
        match PinnedLink::open(&pin).pin("open pinned link", &pin)? {
            Some(link) => attach::unpin(&link, &pin),
            None => Ok(()),
        }
    }

    /// Tells the programs this host's addresses, and the device's own where there is one.
    pub fn set_addresses(
        &mut self,
        vteps: Vteps,
        mac: Option<MacAddr>,
    ) -> Result<(), DatapathError> {
        self.set_vtep(Vtep {
            ip4: ip_key(vteps.ip4),
            ip6: ip_key(vteps.ip6),
            mac: mac.unwrap_or(self.vtep.mac),
            ..self.vtep
        })
    }

    fn set_vtep(&mut self, vtep: Vtep) -> Result<(), DatapathError> {
        if vtep != self.vtep {
            self.tables.set_vtep(&vtep)?;
            self.vtep = vtep;
        }
        Ok(())
    }

    /// Puts the programs of the underlay on its device again when that was made anew. Returns
    /// whether it was.
    pub fn follow_underlay(&mut self, link: &Link) -> Result<bool, DatapathError> {
        if link.ifindex == self.underlay {
            return Ok(false);
        }
        let undo = &mut Undo::default();
        attach_underlay(&mut self.ebpf, link, &self.paths, undo)?;
        let filter = filter(&mut self.ebpf)?;
        if xdp::hook(self.mode, link).is_some() && filter.fd().is_err() {
            programs::load(UNDERLAY_FILTER, filter.load())?;
        }
        self.xdp = xdp::attach(filter, self.mode, link, &self.paths, undo)?;
        self.decap = decap::choose(self.decap_mode, self.xdp, link);
        self.set_vtep(Vtep {
            flags: flags(self.decap),
            ..self.vtep
        })?;
        self.underlay = link.ifindex;
        info!(
            underlay = link.name,
            "the underlay device was made anew: attached again"
        );
        Ok(true)
    }

    pub fn paths(&self) -> &Paths {
        &self.paths
    }
}

async fn device(netlink: &Netlink, name: &str) -> Result<Link, DatapathError> {
    netlink
        .link(name)
        .await?
        .ok_or_else(|| DatapathError::NoDevice(name.to_owned()))
}

/// The programs at both ends of the underlay device's TC hooks.
fn attach_underlay(
    ebpf: &mut Ebpf,
    device: &Link,
    paths: &Paths,
    undo: &mut Undo,
) -> Result<(), DatapathError> {
    for (program, pin, way) in [
        (FROM_UNDERLAY, paths::FROM_UNDERLAY, TcAttachType::Ingress),
        (TO_UNDERLAY, paths::TO_UNDERLAY, TcAttachType::Egress),
    ] {
        Hook {
            program,
            device,
            pin: paths.link(pin),
            way,
        }
        .attach_tc(classifier(ebpf, program)?, undo)?;
    }
    Ok(())
}

fn flags(decap: Decap) -> u32 {
    match decap {
        Decap::Tc => 0,
        Decap::Xdp => vtep_flags::XDP_DECAP,
    }
}

/// A number that is not zero.
fn random() -> u32 {
    rand::random::<u32>() | 1
}

fn ip_key<I: Into<IpAddr>>(ip: Option<I>) -> IpKey {
    ip.map_or(IpKey::default(), |ip| ip.into().into())
}

/// What came of [`Loading`].
struct Loaded {
    ebpf: Ebpf,
    tables: Tables,
    xdp: Option<XdpHook>,
    decap: Decap,
    vtep: Vtep,
    headroom: Headroom,
}

/// One attempt to load and attach.
struct Loading<'a> {
    settings: &'a Settings,
    paths: &'a Paths,
    netlink: &'a Netlink,
    owner: Owner,
    underlay: Link,
    mode: XdpMode,
    fallback_ifindex: u32,
}

impl Loading<'_> {
    /// Everything that may be refused comes first: maps, then programs, then links.
    async fn run(&self, undo: &mut Undo) -> Result<Loaded, DatapathError> {
        let mut ebpf = self.load_maps(undo)?;
        programs::load_classifiers(&mut ebpf)?;
        let attach_xdp = xdp::hook(self.mode, &self.underlay).is_some();
        if attach_xdp {
            programs::load(UNDERLAY_FILTER, filter(&mut ebpf)?.load())?;
        }
        let mut tables = Tables::open(self.paths)?;
        let mut vtep = self.vtep(&tables)?;
        tables.set_vtep(&vtep)?;

        let fallback = device(self.netlink, fallback::FALLBACK_DEVICE).await?;
        Hook {
            program: FROM_FALLBACK,
            device: &fallback,
            pin: self.paths.link(paths::FROM_FALLBACK),
            way: TcAttachType::Ingress,
        }
        .attach_guard(self.netlink, classifier(&mut ebpf, FROM_FALLBACK)?, undo)
        .await?;
        fallback::open(self.netlink, fallback.ifindex, self.settings.port).await?;
        attach_underlay(&mut ebpf, &self.underlay, self.paths, undo)?;
        let headroom = Headroom::open(self.netlink, &self.owner).await;
        let program = classifier(&mut ebpf, FROM_ENDPOINT)?;
        self.take_over_endpoints(program, &tables, headroom, undo)
            .await?;
        let xdp = xdp::attach(
            filter(&mut ebpf)?,
            self.mode,
            &self.underlay,
            self.paths,
            undo,
        )?;
        // Now that whoever is handed frames is there.
        let decap = decap::choose(self.settings.decap, xdp, &self.underlay);
        vtep.flags = flags(decap);
        tables.set_vtep(&vtep)?;
        detach::remove_other_versions(self.paths)?;
        info!(
            underlay = self.underlay.name,
            vtep = %self.settings.underlay.vteps,
            port = self.settings.port,
            xdp = XdpHook::label(xdp),
            %decap,
            "data path attached"
        );
        Ok(Loaded {
            ebpf,
            tables,
            xdp,
            decap,
            vtep,
            headroom,
        })
    }

    fn load_maps(&self, undo: &mut Undo) -> Result<Ebpf, DatapathError> {
        undo.create_directory(&self.paths.maps())?;
        undo.create_directory(&self.paths.links())?;
        for name in ALL {
            let pin = self.paths.map(name);
            if !pin.exists() {
                undo.map(pin);
            }
        }
        EbpfLoader::new()
            .default_map_pin_directory(self.paths.maps())
            .load(OBJECT)
            .map_err(|error| DatapathError::Load(Box::new(error)))
    }

    /// Mark and cookie stay what they were: frames that carry them may be on their way.
    fn vtep(&self, tables: &Tables) -> Result<Vtep, DatapathError> {
        let Vteps { ip4, ip6 } = self.settings.underlay.vteps;
        let before = tables.vtep()?;
        let kept = |number| if number == 0 { random() } else { number };
        Ok(Vtep {
            ip4: ip_key(ip4),
            ip6: ip_key(ip6),
            port: self.settings.port.into(),
            fallback_ifindex: self.fallback_ifindex,
            log_drops: self.settings.log_drops.into(),
            mark: kept(before.mark),
            cookie: kept(before.cookie),
            mac: self.underlay.mac.unwrap_or_default(),
            ..Vtep::default()
        })
    }

    /// Replaces the programs on the endpoints that an earlier run has left, puts them on those
    /// that have lost theirs, and removes the links whose devices are gone. An endpoint whose row
    /// is in the maps is up afterwards; others wait for theirs.
    async fn take_over_endpoints(
        &self,
        program: &mut SchedClassifier,
        tables: &Tables,
        headroom: Headroom,
        undo: &mut Undo,
    ) -> Result<(), DatapathError> {
        let listed = endpoint::list(self.netlink, &self.owner).await?;
        let mut devices: BTreeSet<_> = listed.into_iter().map(|(_, link)| link.name).collect();
        let directory = self.paths.links();
        for entry in fs::read_dir(&directory).pin("list", &directory)? {
            let name = entry.pin("list", &directory)?.file_name();
            devices.extend(
                name.to_str()
                    .and_then(paths::endpoint_device)
                    .map(str::to_owned),
            );
        }
        for device in devices {
            let pin = self.paths.endpoint_link(&device);
            let Some(link) = self.netlink.link(&device).await? else {
                attach::remove_file(&pin).pin("remove pin", &pin)?;
                continue;
            };
            Hook {
                program: FROM_ENDPOINT,
                device: &link,
                pin,
                way: TcAttachType::Ingress,
            }
            .attach_guard(self.netlink, program, undo)
            .await?;
            headroom.reserve(self.netlink, &link).await;
            if tables.has_endpoint(link.ifindex)? {
                endpoint::open(self.netlink, link.ifindex, &device).await?;
            }
        }
        Ok(())
    }
}
