//! VNIs of networks that have no name yet: Docker tells a driver the name of a network only after it
//! has made it.

use overlay_common::net::Vni;

use super::{Registry, RegistryError};
use crate::store::backoff::Attempts;
use crate::store::client::{KvPair, TxnOp};
use crate::store::error::StoreError;
use crate::store::schema::{NodeId, decode, encode};

/// Who has reserved a VNI. It stands in `vnis/<vni>` where the network's name will be, and no name
/// is like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub node: NodeId,
    /// Docker's id of the network.
    pub docker: String,
}

const WORD: &str = "pending";

impl Reservation {
    fn text(&self) -> String {
        format!("{WORD} {} {}", self.node, self.docker)
    }

    pub(super) fn of(pair: &KvPair) -> Option<Self> {
        let text: String = decode(pair).ok()?;
        let mut words = text.split(' ');
        if words.next() != Some(WORD) {
            return None;
        }
        let node = words.next()?.parse().ok()?;
        let docker = words.next()?.to_owned();
        words.next().is_none().then_some(Self { node, docker })
    }
}

impl Registry {
    /// Reserves a VNI; without one, the lowest that is free. To reserve again for the same network gives
    /// the same again.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn reserve_vni(
        &self,
        wanted: Option<Vni>,
        reservation: &Reservation,
    ) -> Result<Vni, RegistryError> {
        let mut attempts = Attempts::new();
        loop {
            match self.try_reserve(wanted, reservation).await {
                Err(RegistryError::Store(error)) => attempts.after(error).await?,
                result => return result,
            }
        }
    }

    async fn try_reserve(
        &self,
        wanted: Option<Vni>,
        reservation: &Reservation,
    ) -> Result<Vni, RegistryError> {
        match self.reserved_vni(reservation).await {
            Ok((vni, _)) => return Ok(vni),
            Err(RegistryError::NotReserved(_)) => {}
            Err(error) => return Err(error),
        }
        let vni = match wanted {
            Some(vni) => vni,
            None => self.free_vni().await?,
        };
        let value = encode(&reservation.text());
        let ops = [TxnOp::cas(self.keys.vni(vni), &value, 0)];
        let action = format!("reserve VNI {vni}");
        match self.client.txn(&action, &ops).await {
            Ok(_) => Ok(vni),
            Err(error) if error.op_failed(0) && wanted.is_some() => {
                Err(self.vni_taken(vni).await?.unwrap_or(error.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The VNI that is reserved, and the index of its key.
    pub(super) async fn reserved_vni(
        &self,
        reservation: &Reservation,
    ) -> Result<(Vni, u64), RegistryError> {
        let all = self.pending().await?;
        let found = all.into_iter().find(|(_, _, made)| made == reservation);
        found
            .map(|(vni, index, _)| (vni, index))
            .ok_or_else(|| RegistryError::NotReserved(reservation.docker.clone()))
    }

    /// All that a host has reserved.
    pub async fn reservations(&self, node: NodeId) -> Result<Vec<Reservation>, StoreError> {
        let all = self.pending().await?;
        let own = all.into_iter().filter(|(_, _, made)| made.node == node);
        Ok(own.map(|(_, _, made)| made).collect())
    }

    /// Gives up what was reserved, if anything was.
    pub async fn unreserve(&self, reservation: &Reservation) -> Result<(), RegistryError> {
        let mut attempts = Attempts::new();
        loop {
            let (vni, index) = match self.reserved_vni(reservation).await {
                Ok(found) => found,
                Err(RegistryError::NotReserved(_)) => return Ok(()),
                Err(RegistryError::Store(error)) => {
                    attempts.after(error).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let ops = [TxnOp::delete_cas(self.keys.vni(vni), index)];
            match self.client.txn(&format!("free VNI {vni}"), &ops).await {
                Ok(_) => return Ok(()),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    async fn pending(&self) -> Result<Vec<(Vni, u64, Reservation)>, StoreError> {
        let pairs = self.client.list(&self.keys.vnis()).await?.value;
        let pending = pairs.iter().filter_map(|pair| {
            let vni = self.keys.parse_vni(&pair.key).ok()?;
            Some((vni, pair.modify_index, Reservation::of(pair)?))
        });
        Ok(pending.collect())
    }
}
