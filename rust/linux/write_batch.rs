// SPDX-License-Identifier: GPL-2.0

//! Several writes in flight at once, and the outcome of each.
//!
//! All that a batch needs is allocated when it is made; its bios come from a pool of its own, of which some can
//! always be had. So who writes in order to free memory, or room in the journal, gets on whatever the state of memory.
//!
//! The writes of a round are submitted within one call of [`WriteBatch::write`], which returns when all of them have ended,
//! however the caller's part of it ends. That, and not a guard that could be forgotten, keeps the borrowed memory from being
//! freed or changed while the device reads it.

use crate::bio::{self, Bio, Pool};
use crate::block_device::{byte_of, BlockDevice, WriteFlags};
use crate::completion::Completion;
use cairnfs_bindings as bindings;
use cairnfs_core::device::{run_of, Device as _};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::units::BlockNo;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};
use kernel::alloc::{flags::GFP_KERNEL, KBox, KVec};
use kernel::prelude::{pin_data, pin_init, InPlaceInit, PinInit};

/// What the writes of a round count down.
#[pin_data]
struct Round {
    /// Writes that have not ended, and one for the round itself while it may get more.
    pending: AtomicU32,
    #[pin]
    ended: Completion,
}

impl Round {
    #[allow(clippy::new_ret_no_self)]
    fn new() -> impl PinInit<Self> {
        pin_init!(Self { pending: AtomicU32::new(0), ended <- Completion::new() })
    }

    /// One thing less to wait for; whether it was the last.
    fn end_one(&self) -> bool {
        // Release: who finds nothing pending sees all outcomes. Acquire: so he does.
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// One write of a round. All is atomic: ends come while others are submitted.
struct Slot {
    /// The batch's, which lives as long as this.
    round: *const Round,
    /// The number of its first block.
    start: AtomicU64,
    /// A `blk_status_t`, once the write has ended.
    status: AtomicU8,
}

/// Room for writes.
///
/// # Invariants
///
/// While [`Self::write`] does not run, no bio of the pool is allocated, and nobody else looks at slots or round.
pub struct WriteBatch {
    slots: KVec<Slot>,
    /// How many of the slots the last round has used.
    used: usize,
    round: Pin<KBox<Round>>,
    pool: Pin<KBox<Pool>>,
}

// SAFETY: The pointers in the slots are to what the batch itself owns.
unsafe impl Send for WriteBatch {}
// SAFETY: Through a shared reference outcomes can be read, and nothing writes to them while there is one.
unsafe impl Sync for WriteBatch {}

impl WriteBatch {
    /// A batch for rounds of up to `capacity` writes.
    pub fn try_new(capacity: usize) -> kernel::error::Result<Self> {
        let round = KBox::pin_init(Round::new(), GFP_KERNEL)?;
        let mut slots = KVec::with_capacity(capacity, GFP_KERNEL)?;
        for _ in 0..capacity {
            let slot = Slot { round: &raw const *round, start: AtomicU64::new(0), status: AtomicU8::new(0) };
            slots.push(slot, GFP_KERNEL)?;
        }
        // INVARIANT: Nothing was submitted.
        Ok(Self { slots, used: 0, round, pool: KBox::try_pin_init(Pool::new(), GFP_KERNEL)? })
    }

    /// How many writes a round can have.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// A round of writes: those that `body` submits. Returns what `body` does, when all of them have ended.
    pub fn write<'env, R>(
        &mut self,
        device: &'env BlockDevice,
        body: impl FnOnce(&mut Writes<'_, 'env>) -> R,
    ) -> R {
        self.used = 0;
        self.round.pending.store(1, Ordering::Relaxed);
        // Neighbours submitted in a row go to the device as one request.
        let mut plug = MaybeUninit::<bindings::blk_plug>::uninit();
        // SAFETY: The plug stays where it is until it is finished below, in the same task.
        unsafe { bindings::blk_start_plug(plug.as_mut_ptr()) };
        let result = body(&mut Writes { batch: self, device, _memory: PhantomData });
        // SAFETY: It was started above.
        unsafe { bindings::blk_finish_plug(plug.as_mut_ptr()) };
        if !self.round.end_one() {
            self.round.ended.wait_io();
        }
        // INVARIANT: All writes have ended, and each has put its bio before it counted itself.
        result
    }

    /// The outcomes of the last round's writes, in the order in which they were submitted.
    pub fn results(&self) -> impl Iterator<Item = Result> + '_ {
        self.slots.iter().take(self.used).map(|slot| match slot.status.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Error::Io(BlockNo(slot.start.load(Ordering::Relaxed)))),
        })
    }
}

/// A round of writes that is going on. What is to be written lives, unchanged, for all of `'env`, and so until the round has
/// ended.
pub struct Writes<'batch, 'env> {
    batch: &'batch mut WriteBatch,
    device: &'env BlockDevice,
    _memory: PhantomData<&'env [u8]>,
}

impl<'env> Writes<'_, 'env> {
    /// Begins to write whole blocks. [`Error::InvalidArgument`] when the batch is full, or the bytes too many for one bio (255
    /// blocks): nothing is submitted then, and the write is not among the outcomes.
    pub fn submit(&mut self, block: BlockNo, bytes: &'env [u8], flags: WriteFlags) -> Result {
        run_of(block, bytes.len(), self.device.blocks())?;
        if bytes.len() > bio::BYTES_MAX {
            return Err(Error::InvalidArgument);
        }
        let batch = &mut *self.batch;
        let slot = batch.slots.get(batch.used).ok_or(Error::InvalidArgument)?;
        // SAFETY: Device and memory live for `'env`, which ends behind `WriteBatch::write`, which waits for the bio's end. The
        // device does not write to memory. The pool is the batch's.
        let bio = unsafe {
            Bio::new(
                self.device.as_ptr(),
                byte_of(block),
                bytes.as_ptr().cast_mut(),
                bytes.len(),
                flags.operation(),
                Some(&batch.pool),
            )
        };
        let bio = bio.ok_or(Error::InvalidArgument)?;
        slot.start.store(block.0, Ordering::Relaxed);
        batch.used = batch.used.saturating_add(1);
        batch.round.pending.fetch_add(1, Ordering::Relaxed);
        let slot: *const Slot = slot;
        // SAFETY: The function wants a slot of a batch that waits for it: the slots stay where they are, and this one is used once
        // in a round.
        unsafe { bio.submit(end_callback, slot.cast()) };
        Ok(())
    }
}

/// # Safety
///
/// Called once, by the block layer, for a bio that `Writes::submit` has submitted.
unsafe extern "C" fn end_callback(bio: *mut bindings::bio) {
    // SAFETY: The bio has ended and is this function's. What it has as private is a slot, which lives until the round has
    // ended, and so does the round: what follows on the last count is the completion, which lets its waiter free it.
    unsafe {
        let (slot, status) = (&*(*bio).bi_private.cast::<Slot>(), (*bio).bi_status);
        let round = slot.round;
        bindings::bio_put(bio);
        slot.status.store(status, Ordering::Relaxed);
        if (*round).end_one() {
            (*round).ended.complete();
        }
    }
}
