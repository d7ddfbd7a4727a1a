// SPDX-License-Identifier: GPL-2.0

//! Examining a journal without changing anything: what the tools need besides following the chain.
//!
//! The same steps as recovery's, one by one, so that each can be reported: [`super::scan`] follows the chain; [`super::check_damage`]
//! says whether everything that was known durable is there; [`rehearse`] replays it in memory and stops where recovery would
//! begin to write. Nothing here writes to the device, so a crash leaves nothing of it.

use super::apply::Targets;
use super::chain::RingReader;
use super::items::{Item, Items};
use super::{replay_and_verify, Scan};
use crate::device::Device;
use crate::error::Result;
use crate::format::group::Geometry;
use crate::format::item::ItemHeader;
use crate::format::journal::JournalHeader;
use crate::journal::encode::item_bytes;
use crate::platform::Platform;
use crate::units::BlockNo;

/// An item, and what stands in front of it.
pub struct ListedItem<'p> {
    /// Its header: also of an item of an unknown kind, of which nothing else is known.
    pub header: ItemHeader,
    /// The item.
    pub item: Item<'p>,
}

/// The items of a payload with their headers, checked as replay checks them.
pub struct ListedItems<'p> {
    items: Items<'p>,
    payload: &'p [u8],
}

impl<'p> ListedItems<'p> {
    /// The items of `payload`, which stands at `at`.
    pub const fn new(payload: &'p [u8], at: BlockNo) -> Self {
        Self { items: Items::new(payload, at), payload }
    }

    /// The next item; `None` at the end. Behind an error there are no more.
    pub fn next(&mut self, geometry: &Geometry) -> Result<Option<ListedItem<'p>>> {
        let Some(item) = self.items.next(geometry)? else {
            return Ok(None);
        };
        // It is there whole, or it had not been handed out.
        let header = ItemHeader::decode(self.payload, 0)?;
        self.payload = self.payload.get(item_bytes(header.body_bytes as usize)..).unwrap_or(&[]);
        Ok(Some(ListedItem { header, item }))
    }
}

/// Replays in memory what was scanned, and verifies all of it, as recovery does before it writes anything. Group headers are not
/// among it: recovery makes them anew, from bitmaps that have been verified here, while it writes.
pub fn rehearse(
    device: &dyn Device,
    platform: &dyn Platform,
    geometry: &Geometry,
    header: &JournalHeader,
    scan: &Scan,
    reader: &mut RingReader<'_>,
) -> Result {
    let mut targets = Targets::new(device, platform, geometry);
    replay_and_verify(reader, header, scan, geometry, &mut targets)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::testing::geometry;
    use crate::error::{Check, Error};
    use crate::format::item::{ItemKind, ITEM_OPTIONAL};
    use crate::journal::encode::{put_operation, put_revoke, Writer};

    const AT: BlockNo = BlockNo(9);

    /// A revoke, an unknown item of 5 bytes, an operation with a name of 3 bytes.
    fn payload(unknown_flags: u16) -> Vec<u8> {
        let mut bytes = vec![0; 200];
        let mut writer = Writer::new(&mut bytes, 0);
        put_revoke(&mut writer, BlockNo(200_000), 1).unwrap();
        writer.put(&ItemHeader { kind: 99, flags: unknown_flags, body_bytes: 5 }).unwrap();
        writer.put_bytes(&[1; 5]).unwrap();
        writer.pad(8).unwrap();
        put_operation(&mut writer, &[0; 35]).unwrap();
        let end = writer.position();
        bytes.truncate(end);
        bytes
    }

    #[test]
    fn each_item_comes_with_its_own_header() {
        let payload = payload(ITEM_OPTIONAL);
        let mut items = ListedItems::new(&payload, AT);
        let mut listed = Vec::new();
        while let Some(ListedItem { header, item }) = items.next(&geometry()).unwrap() {
            listed.push((header.kind, header.body_bytes, matches!(item, Item::Skipped)));
        }
        assert_eq!(
            listed,
            [(ItemKind::Revoke as u16, 16, false), (99, 5, true), (ItemKind::Operation as u16, 35, false)]
        );
    }

    #[test]
    fn what_replay_refuses_is_not_listed() {
        let bytes = payload(0);
        let mut items = ListedItems::new(&bytes, AT);
        assert!(items.next(&geometry()).unwrap().is_some());
        assert!(matches!(items.next(&geometry()), Err(Error::Unsupported(_))));
        let cut = &bytes[..20];
        let outcome = ListedItems::new(cut, AT).next(&geometry()).map(|_| ());
        assert!(
            matches!(outcome, Err(Error::Corrupt(found)) if found.check == Check::JournalItem),
            "{outcome:?}"
        );
    }
}
