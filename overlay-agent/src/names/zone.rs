//! Everything that can be asked, as the name server's library wants it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::PTR;
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType, TSigResponseContext};
use hickory_server::server::{Request, RequestInfo};
use hickory_server::zone_handler::{
    AuthLookup, AxfrPolicy, LookupControlFlow, LookupError, LookupOptions, LookupRecords,
    ZoneHandler, ZoneType,
};
use overlay_common::decide::service;
use rand::seq::SliceRandom as _;

use super::table::{Answer, Names};
use super::upstream::Upstream;

/// Seconds that an answer may be kept: a container's name follows it at once.
const TTL: u32 = 1;

/// How long somebody new is let wait for what is not known yet.
const SOON: Duration = Duration::from_millis(300);

/// What names mean at this moment, as far as an interface may ask for them.
type Read = Box<dyn Fn(u32) -> Arc<Names> + Send + Sync>;

/// What is answered.
pub(super) struct Zone {
    origin: LowerName,
    /// `None` where none of the endpoints asks.
    names: Option<Read>,
    upstream: Arc<Upstream>,
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").finish_non_exhaustive()
    }
}

impl Zone {
    pub(super) fn of_endpoints(
        names: impl Fn(u32) -> Arc<Names> + Send + Sync + 'static,
        upstream: Arc<Upstream>,
    ) -> Self {
        Self {
            names: Some(Box::new(names)),
            ..Self::of_host(upstream)
        }
    }

    /// For the host itself, and containers on other networks of its.
    pub(super) fn of_host(upstream: Arc<Upstream>) -> Self {
        Self {
            origin: Name::root().into(),
            names: None,
            upstream,
        }
    }

    async fn answer(
        &self,
        from: SocketAddr,
        name: &LowerName,
        kind: RecordType,
    ) -> Result<AuthLookup, LookupError> {
        let question = Name::from(name);
        let answer = match (&self.names, from.ip()) {
            (Some(names), IpAddr::V4(ip)) => match service::ifindex_of(ip.octets()) {
                Some(ifindex) => ask(names, ifindex, &question, kind).await,
                None => Answer::Refused,
            },
            (Some(_), IpAddr::V6(_)) => Answer::Refused,
            (None, _) => Answer::Unknown,
        };
        match answer {
            Answer::Known(records) => {
                let records = LookupRecords::Section(records?);
                Ok(AuthLookup::answers(records, None))
            }
            // Not NXDOMAIN, which is final: by another network the container may reach another server.
            // The library makes "refused" of nothing that is forwarded.
            Answer::Refused => Err(ResponseCode::ServFail.into()),
            Answer::Unknown => self.upstream.lookup(question, kind).await,
        }
    }
}

/// What the endpoints' own names say, and of somebody new a moment later.
async fn ask(
    names: &Read,
    ifindex: u32,
    question: &Name,
    kind: RecordType,
) -> Answer<Result<Vec<Record>, ResponseCode>> {
    let known = names(ifindex);
    let answer = own(&known, ifindex, question, kind);
    if matches!(answer, Answer::Known(_)) || !known.is_young(ifindex) {
        return answer;
    }
    tokio::time::sleep(SOON).await;
    own(&names(ifindex), ifindex, question, kind)
}

/// What the endpoints' own names say.
fn own(
    names: &Names,
    ifindex: u32,
    question: &Name,
    kind: RecordType,
) -> Answer<Result<Vec<Record>, ResponseCode>> {
    let record = |data: RData| Record::from_rdata(question.clone(), TTL, data);
    if let Ok(net) = question.parse_arpa_name()
        && net.prefix_len() == net.max_prefix_len()
    {
        return names.name(ifindex, net.addr()).map(|found| {
            let (name, network) = found.ok_or(ResponseCode::NXDomain)?;
            let labels = name.split('.').chain(network.split('.'));
            let name = Name::from_labels(labels.map(str::as_bytes));
            let found = name.ok().filter(|_| asks_for(kind, RecordType::PTR));
            let found = found.map(|name| record(RData::PTR(PTR(name))));
            Ok(found.into_iter().collect())
        });
    }
    let text = question.to_utf8();
    names
        .addresses(ifindex, text.trim_end_matches('.'))
        .map(|ips| {
            let records = ips.iter().filter_map(|ip| match ip {
                IpAddr::V4(ip) if asks_for(kind, RecordType::A) => {
                    Some(record(RData::A((*ip).into())))
                }
                IpAddr::V6(ip) if asks_for(kind, RecordType::AAAA) => {
                    Some(record(RData::AAAA((*ip).into())))
                }
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            });
            let mut records: Vec<Record> = records.collect();
            // Who takes the first one takes each now and then.
            records.shuffle(&mut rand::rng());
            Ok(records)
        })
}

fn asks_for(asked: RecordType, kind: RecordType) -> bool {
    asked == kind || asked == RecordType::ANY
}

#[async_trait]
impl ZoneHandler for Zone {
    fn zone_type(&self) -> ZoneType {
        ZoneType::External
    }

    fn axfr_policy(&self) -> AxfrPolicy {
        AxfrPolicy::Deny
    }

    fn origin(&self) -> &LowerName {
        &self.origin
    }

    /// Asked with the address of who asks only: [`Self::search`].
    async fn lookup(
        &self,
        _name: &LowerName,
        _kind: RecordType,
        _request: Option<&RequestInfo<'_>>,
        _options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Break(Err(ResponseCode::NotImp.into()))
    }

    async fn search(
        &self,
        request: &Request,
        _options: LookupOptions,
    ) -> (LookupControlFlow<AuthLookup>, Option<TSigResponseContext>) {
        let answer = match request.request_info() {
            Ok(info) => {
                let (name, kind) = (info.query.name(), info.query.query_type());
                self.answer(info.src, name, kind).await
            }
            Err(error) => Err(error),
        };
        (LookupControlFlow::Break(answer), None)
    }

    async fn nsec_records(
        &self,
        _name: &LowerName,
        _options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Break(Err(ResponseCode::NotImp.into()))
    }
}
