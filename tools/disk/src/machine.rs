//! The disks of one machine, which lose power together, and the commands that act on them.
//!
//! Lock order: a disk, then the list of connections; two disks are never locked at once.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{json, Value};
use thiserror::Error;

use crate::command::{Action, Command, CommandError};
use crate::disk::{Disk, DiskError};
use crate::epoch_log::Change;
use crate::power_cut::ArmedCut;
use crate::recording_file;
use crate::units::Seed;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum MachineError {
    /// It is no command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The disk could not do it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no such disk.
    #[error("there is no disk `{0}`")]
    NoSuchDisk(String),
    /// A guest asked for a file of the host.
    #[error("only the host may name files")]
    HostOnly,
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Its name.
        path: String,
        /// What happened.
        error: std::io::Error,
    },
}

/// Who gives a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The control socket.
    Host,
    /// The control export.
    Guest,
}

/// What closes the connections to a disk when its medium changes under them.
pub trait Hangup: Send + Sync {
    /// Closes them.
    fn hang_up(&self, disk: usize);
}

/// The answer to a command: names and values.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Answer(serde_json::Map<String, Value>);

impl Answer {
    fn of(name: &'static str, value: impl Into<Value>) -> Self {
        Self([(name.to_owned(), value.into())].into_iter().collect())
    }

    fn of_object(object: &impl Serialize) -> Self {
        match serde_json::to_value(object) {
            Ok(Value::Object(fields)) => Self(fields),
            // What comes here are plain structs with named fields.
            Ok(_) | Err(_) => Self::default(),
        }
    }
}

/// `key=value` lines; nested objects are flattened, lists have one line an element.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write_value(f, name, value))
    }
}

fn write_value(f: &mut fmt::Formatter<'_>, name: &str, value: &Value) -> fmt::Result {
    match value {
        Value::Object(fields) => {
            fields.iter().try_for_each(|(key, value)| write_value(f, &format!("{name}.{key}"), value))
        }
        Value::Array(elements) => elements.iter().try_for_each(|element| match element {
            Value::Object(fields) => {
                let words = fields.iter().map(|(key, value)| format!(" {key}={value}"));
                writeln!(f, "{name}{}", words.collect::<String>())
            }
            element => write_value(f, name, element),
        }),
        Value::String(text) => writeln!(f, "{name}={text}"),
        value => writeln!(f, "{name}={value}"),
    }
}

/// One disk and its name.
struct Slot {
    name: String,
    disk: Mutex<Disk>,
}

/// The disks.
pub struct Machine {
    slots: Vec<Slot>,
    hangup: Box<dyn Hangup>,
}

impl Machine {
    /// A machine with these disks, in this order.
    pub fn new(disks: Vec<(String, Disk)>, hangup: Box<dyn Hangup>) -> Self {
        let slot = |(name, disk)| Slot { name, disk: Mutex::new(disk) };
        Self { slots: disks.into_iter().map(slot).collect(), hangup }
    }

    /// The names of the disks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.name.as_str())
    }

    /// The index of a disk.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names().position(|other| other == name)
    }

    /// Locks a disk. A thread that panicked while it served a request has left the disk in a state
    /// that is still worth examining, so poison is ignored.
    pub fn disk(&self, index: usize) -> MutexGuard<'_, Disk> {
        self.slots[index].disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power of all disks. `in_flight` arrived unanswered at one of them. Nobody is told before the last disk is off:
    /// a guest that sees one of its disks gone must not get answers from another.
    pub fn cut(&self, seed: Seed, in_flight: Option<(usize, Vec<Change>)>) -> Result<Answer, MachineError> {
        let (at, mut in_flight) = in_flight.map_or((None, Vec::new()), |(at, list)| (Some(at), list));
        let mut reports = serde_json::Map::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let seed = if index == 0 { seed } else { seed.derive(index as u64) };
            let in_flight = if at == Some(index) { std::mem::take(&mut in_flight) } else { vec![] };
            let report = self.disk(index).cut(seed, in_flight)?;
            reports.insert(slot.name.clone(), json!(report));
        }
        (0..self.slots.len()).for_each(|index| self.hangup.hang_up(index));
        Ok(Answer(reports))
    }

    /// Does what a line says.
    pub fn command(&self, line: &str, origin: Origin) -> Result<Answer, MachineError> {
        let Command { action, disk } = Command::parse(line)?;
        if origin == Origin::Guest && action.is_for_host_only() {
            return Err(MachineError::HostOnly);
        }
        let index = match disk {
            None => 0,
            Some(name) => self.find(&name).ok_or(MachineError::NoSuchDisk(name))?,
        };
        match action {
            Action::Mark(text) => {
                (0..self.slots.len()).for_each(|index| self.disk(index).mark(&text));
                Ok(Answer::default())
            }
            Action::Cut { seed, moment: None } => self.cut(seed, None),
            Action::HoldPower(is_held) => {
                (0..self.slots.len()).for_each(|index| self.disk(index).hold_power(is_held));
                Ok(Answer::default())
            }
            action => self.act_on(index, action),
        }
    }

    fn act_on(&self, index: usize, action: Action) -> Result<Answer, MachineError> {
        let mut disk = self.disk(index);
        let life = disk.life();
        let answer = act(&mut disk, action)?;
        let is_new_life = disk.life() != life;
        drop(disk);
        if is_new_life {
            self.hangup.hang_up(index);
        }
        Ok(answer)
    }

    /// An orderly end of all disks.
    pub fn shut_down(&self) -> Result<(), DiskError> {
        (0..self.slots.len()).try_for_each(|index| self.disk(index).shut_down())
    }
}

fn act(disk: &mut Disk, action: Action) -> Result<Answer, MachineError> {
    match action {
        Action::Cut { seed, moment } => {
            disk.arm_cut(moment.map(|moment| ArmedCut::new(seed, moment)));
        }
        Action::Disarm => disk.arm_cut(None),
        Action::Lie(lie) => disk.set_lie(lie),
        Action::Price { write_ns, kib_ns, flush_ns, read_ns } => {
            let prices = disk.prices_mut();
            prices.write_ns = write_ns.unwrap_or(prices.write_ns);
            prices.kib_ns = kib_ns.unwrap_or(prices.kib_ns);
            prices.flush_ns = flush_ns.unwrap_or(prices.flush_ns);
            prices.read_ns = read_ns.unwrap_or(prices.read_ns);
            return Ok(Answer::of_object(prices));
        }
        Action::Counters => return Ok(Answer::of_object(&disk.counters().total())),
        Action::CountersReset => {
            let total = disk.counters().total();
            disk.reset_counters();
            return Ok(Answer::of_object(&total));
        }
        Action::CountersByEpoch => {
            let (first, epochs) = disk.counters().epochs();
            let epochs: Vec<_> = epochs.collect();
            return Ok(Answer::of_object(&json!({ "first_epoch": first, "epoch": epochs })));
        }
        Action::RecordOn => disk.start_recording(),
        Action::RecordOff => disk.close_recording(),
        Action::States => {
            let (states, epochs) = disk.crash_states()?;
            return Ok(Answer::of_object(&json!({ "states": states, "epoch": epochs })));
        }
        Action::OfferState(state) => return Ok(Answer::of_object(&disk.offer_state(state)?)),
        Action::OfferKept(index) => disk.offer_kept(index)?,
        Action::Keep => return Ok(Answer::of("kept", disk.keep()? as u64)),
        Action::Reset => disk.reset()?,
        Action::Marks => {
            let marks: Vec<_> = disk.marks().iter().map(ToString::to_string).collect();
            return Ok(Answer::of("mark", marks));
        }
        Action::AdvertiseFua(advertises_fua) => disk.set_advertises_fua(advertises_fua),
        Action::Status => return Ok(status(disk)),
        Action::Save(path) => {
            let saved = recording_file::save(disk.recording()?, &path);
            saved.map_err(|error| file_error(&path, error))?;
        }
        Action::Load(path) => {
            let loaded = recording_file::load(&path);
            disk.load_recording(loaded.map_err(|error| file_error(&path, error))?);
        }
        Action::SaveImage(path) => {
            disk.durable_image()?.save(&path).map_err(|error| file_error(&path, error))?;
        }
        Action::Mark(text) => disk.mark(&text),
        Action::HoldPower(is_held) => disk.hold_power(is_held),
    }
    Ok(Answer::default())
}

fn file_error(path: &std::path::Path, error: std::io::Error) -> MachineError {
    MachineError::File { path: path.display().to_string(), error }
}

fn status(disk: &Disk) -> Answer {
    Answer::of_object(&json!({
        "size_bytes": disk.size_bytes(),
        "life": disk.life(),
        "fua": disk.options().advertises_fua,
        "read_only": disk.options().read_only,
        "lie": disk.lie(),
        "recording": disk.is_recording(),
        "cut_armed": disk.has_armed_cut(),
        "last_cut": disk.last_cut(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskOptions;
    use std::sync::{Arc, OnceLock, Weak};

    #[derive(Default)]
    struct Seen {
        machine: OnceLock<Weak<Machine>>,
        all_were_off: Mutex<Vec<bool>>,
    }

    /// Notes whether all disks were off whenever connections are closed.
    struct Witness(Arc<Seen>);

    impl Hangup for Witness {
        fn hang_up(&self, _disk: usize) {
            let machine = self.0.machine.get().and_then(Weak::upgrade).unwrap();
            let mut disks = 0..machine.slots.len();
            let all_off = disks.all(|index| machine.disk(index).last_cut().is_some());
            self.0.all_were_off.lock().unwrap().push(all_off);
        }
    }

    #[test]
    fn all_disks_are_off_before_the_first_connection_closes() {
        let seen = Arc::new(Seen::default());
        let disk = |name: &str| (name.to_owned(), Disk::in_memory(1 << 20, DiskOptions::default()));
        let hangup = Box::new(Witness(Arc::clone(&seen)));
        let machine = Arc::new(Machine::new(["a", "b"].map(disk).into(), hangup));
        seen.machine.set(Arc::downgrade(&machine)).unwrap();
        machine.cut(Seed(1), None).unwrap();
        assert_eq!(*seen.all_were_off.lock().unwrap(), [true, true]);
    }
}
