//! The language of the control export and the control socket: one line, a verb and its words.
//!
//! ```text
//! mark TEXT                            put a mark into every disk's log
//! cut seed=N [change=N|flush=N|lied]   cut the power, now or at a moment to come
//! disarm                               forget an armed cut
//! power held|on                        after a cut nobody is served until `power on`, or anybody who connects
//! lie off|all|flush|fua                lie about flushes, forced writes or both
//! lie one seed=N among=N               drop one of the next flushes
//! price [write_ns=N] [kib_ns=N] [flush_ns=N] [read_ns=N]
//! counters [reset|epochs]
//! record on|off                        keep the log from here on; close the recording
//! checkpoint                           record on, with the history so far forgotten
//! states                               how many crash states the closed recording has
//! offer state=N | offer kept=N         serve that state from the next connection on
//! keep                                 set the medium's present state aside
//! reset                                back to the image that the disk began with
//! marks                                all marks that led to the present state
//! fua on|off                           advertise FUA from the next connection on
//! status
//! save PATH | load PATH | image PATH   recordings and images as files; control socket only
//! ```
//!
//! Every verb but `mark`, `cut` and `power` takes `disk=NAME`; without it the first disk is meant.

use std::path::PathBuf;

use thiserror::Error;

use crate::lies::Lie;
use crate::power_cut::CutMoment;
use crate::units::{Seed, StateNumber};

/// A line that is no command.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// The line is empty.
    #[error("an empty line is no command")]
    Empty,
    /// The verb does not exist.
    #[error("unknown command `{0}`")]
    UnknownVerb(String),
    /// A word does not belong to the verb.
    #[error("`{verb}` does not take `{word}`")]
    UnknownWord {
        /// The command.
        verb: String,
        /// The word.
        word: String,
    },
    /// A word that the verb needs is missing.
    #[error("`{verb}` needs {what}")]
    Missing {
        /// The command.
        verb: &'static str,
        /// What it needs.
        what: &'static str,
    },
    /// A number is none.
    #[error("`{0}` is not a number")]
    NotANumber(String),
}

/// A command and the disk that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub action: Action,
    /// The name of the disk, if the line had one.
    pub disk: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put a mark into the logs.
    Mark(String),
    /// Cut the power, now or then.
    Cut {
        /// What to draw from.
        seed: Seed,
        /// When; now if absent.
        moment: Option<CutMoment>,
    },
    /// Forget an armed cut.
    Disarm,
    /// After a cut the power comes back when somebody says so (held), or with the next connection.
    HoldPower(bool),
    /// Lie about this from now on.
    Lie(Lie),
    /// Change these prices.
    Price {
        /// Each write.
        write_ns: Option<u64>,
        /// Each KiB.
        kib_ns: Option<u64>,
        /// Each flush.
        flush_ns: Option<u64>,
        /// Each read.
        read_ns: Option<u64>,
    },
    /// Answer with the counts.
    Counters,
    /// Answer with the counts by epoch.
    CountersByEpoch,
    /// Answer with the counts, then start again.
    CountersReset,
    /// Begin a recording, or begin it anew.
    RecordOn,
    /// Close the recording.
    RecordOff,
    /// Answer with the number of crash states.
    States,
    /// Serve a crash state.
    OfferState(StateNumber),
    /// Serve a kept state.
    OfferKept(usize),
    /// Keep the present state.
    Keep,
    /// Serve the first image.
    Reset,
    /// Answer with the marks.
    Marks,
    /// Advertise FUA or not.
    AdvertiseFua(bool),
    /// Answer with what the disk is at.
    Status,
    /// Save the closed recording.
    Save(PathBuf),
    /// Load a recording.
    Load(PathBuf),
    /// Save the medium.
    SaveImage(PathBuf),
}

impl Action {
    /// Whether it names a file of the host, which a guest must not.
    pub fn is_for_host_only(&self) -> bool {
        matches!(self, Self::Save(_) | Self::Load(_) | Self::SaveImage(_))
    }
}

/// The words of a line that have not been taken yet.
struct Words<'a> {
    verb: &'a str,
    left: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn take_value(&mut self, key: &str) -> Option<&'a str> {
        let at = self
            .left
            .iter()
            .position(|word| word.strip_prefix(key).is_some_and(|rest| rest.starts_with('=')))?;
        self.left.remove(at).split_once('=').map(|(_, value)| value)
    }

    fn take_number(&mut self, key: &str) -> Result<Option<u64>, CommandError> {
        let number = |text: &str| text.parse().map_err(|_| CommandError::NotANumber(text.to_owned()));
        self.take_value(key).map(number).transpose()
    }

    fn need_number(&mut self, verb: &'static str, key: &'static str) -> Result<u64, CommandError> {
        self.take_number(key)?.ok_or(CommandError::Missing { verb, what: key })
    }

    fn take_word(&mut self) -> Option<&'a str> {
        (!self.left.is_empty()).then(|| self.left.remove(0))
    }

    fn unknown(&self, word: &str) -> CommandError {
        CommandError::UnknownWord { verb: self.verb.to_owned(), word: word.to_owned() }
    }
}

impl Command {
    /// Reads one line; trailing zero bytes of a control sector are the caller's business.
    pub fn parse(line: &str) -> Result<Self, CommandError> {
        let line = line.trim();
        let (verb, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match verb {
            "" => return Err(CommandError::Empty),
            // A mark is the guest's own text, not words of this language.
            "mark" => return Ok(Self { action: Action::Mark(rest.trim().to_owned()), disk: None }),
            _ => {}
        }
        let mut words = Words { verb, left: rest.split_whitespace().collect() };
        let disk = words.take_value("disk").map(str::to_owned);
        let action = Action::parse(&mut words)?;
        match words.left.first() {
            Some(word) => Err(words.unknown(word)),
            None => Ok(Self { action, disk }),
        }
    }
}

impl Action {
    fn parse(words: &mut Words<'_>) -> Result<Self, CommandError> {
        Ok(match words.verb {
            "cut" => parse_cut(words)?,
            "disarm" => Self::Disarm,
            "power" => Self::HoldPower(parse_power(words)?),
            "lie" => parse_lie(words)?,
            "price" => Self::Price {
                write_ns: words.take_number("write_ns")?,
                kib_ns: words.take_number("kib_ns")?,
                flush_ns: words.take_number("flush_ns")?,
                read_ns: words.take_number("read_ns")?,
            },
            "counters" => match words.take_word() {
                None => Self::Counters,
                Some("reset") => Self::CountersReset,
                Some("epochs") => Self::CountersByEpoch,
                Some(word) => return Err(words.unknown(word)),
            },
            "record" => match parse_switch(words, "record")? {
                true => Self::RecordOn,
                false => Self::RecordOff,
            },
            "checkpoint" => Self::RecordOn,
            "states" => Self::States,
            "offer" => match (words.take_number("state")?, words.take_number("kept")?) {
                (Some(state), None) => Self::OfferState(StateNumber(state)),
                (None, Some(kept)) => Self::OfferKept(kept as usize),
                _ => {
                    return Err(CommandError::Missing { verb: "offer", what: "state= or kept=" });
                }
            },
            "keep" => Self::Keep,
            "reset" => Self::Reset,
            "marks" => Self::Marks,
            "fua" => Self::AdvertiseFua(parse_switch(words, "fua")?),
            "status" => Self::Status,
            "save" => Self::Save(parse_path(words, "save")?),
            "load" => Self::Load(parse_path(words, "load")?),
            "image" => Self::SaveImage(parse_path(words, "image")?),
            verb => return Err(CommandError::UnknownVerb(verb.to_owned())),
        })
    }
}

fn parse_cut(words: &mut Words<'_>) -> Result<Action, CommandError> {
    let seed = Seed(words.need_number("cut", "seed")?);
    let at_change = words.take_number("change")?.map(CutMoment::AtChange);
    let at_flush = words.take_number("flush")?.map(CutMoment::AtFlush);
    let after_lie = match words.take_word() {
        Some("lied") => Some(CutMoment::AfterLie),
        Some(word) => return Err(words.unknown(word)),
        None => None,
    };
    match [at_change, at_flush, after_lie].into_iter().flatten().collect::<Vec<_>>()[..] {
        [] => Ok(Action::Cut { seed, moment: None }),
        [moment] => Ok(Action::Cut { seed, moment: Some(moment) }),
        _ => Err(CommandError::Missing { verb: "cut", what: "one moment, not several" }),
    }
}

fn parse_lie(words: &mut Words<'_>) -> Result<Action, CommandError> {
    Ok(Action::Lie(match words.take_word() {
        Some("off") => Lie::None,
        Some("all") => Lie::All,
        Some("flush") => Lie::Flush,
        Some("fua") => Lie::ForcedWrite,
        Some("one") => {
            Lie::one_flush(Seed(words.need_number("lie", "seed")?), words.need_number("lie", "among")?)
        }
        Some(word) => return Err(words.unknown(word)),
        None => {
            return Err(CommandError::Missing { verb: "lie", what: "off, all, flush, fua or one" });
        }
    }))
}

fn parse_power(words: &mut Words<'_>) -> Result<bool, CommandError> {
    match words.take_word() {
        Some("held") => Ok(true),
        Some("on") => Ok(false),
        Some(word) => Err(words.unknown(word)),
        None => Err(CommandError::Missing { verb: "power", what: "held or on" }),
    }
}

fn parse_switch(words: &mut Words<'_>, verb: &'static str) -> Result<bool, CommandError> {
    match words.take_word() {
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(word) => Err(words.unknown(word)),
        None => Err(CommandError::Missing { verb, what: "on or off" }),
    }
}

fn parse_path(words: &mut Words<'_>, verb: &'static str) -> Result<PathBuf, CommandError> {
    words.take_word().map(PathBuf::from).ok_or(CommandError::Missing { verb, what: "a path" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(line: &str) -> Action {
        Command::parse(line).unwrap().action
    }

    #[test]
    fn commands_are_verbs_with_words() {
        assert_eq!(
            action("cut seed=7 change=12"),
            Action::Cut { seed: Seed(7), moment: Some(CutMoment::AtChange(12)) }
        );
        assert_eq!(
            action("cut seed=7 lied"),
            Action::Cut { seed: Seed(7), moment: Some(CutMoment::AfterLie) }
        );
        assert_eq!(action("  mark  fsync 17 a/b disk=x "), Action::Mark("fsync 17 a/b disk=x".into()));
        assert_eq!(action("offer state=9"), Action::OfferState(StateNumber(9)));
        assert_eq!(action("checkpoint"), Action::RecordOn);
        assert_eq!(action("power held"), Action::HoldPower(true));
        assert_eq!(action("power on"), Action::HoldPower(false));
        let command = Command::parse("counters disk=disk1 reset").unwrap();
        assert_eq!(command.action, Action::CountersReset);
        assert_eq!(command.disk.as_deref(), Some("disk1"));
        assert!(action("image /a").is_for_host_only() && !action("keep").is_for_host_only());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "",
            "cut",
            "cut seed=x",
            "cut seed=1 change=1 flush=2",
            "cut seed=1 soon",
            "lie",
            "lie sometimes",
            "lie one seed=1",
            "offer",
            "offer state=1 kept=2",
            "keep now",
            "record",
            "fua maybe",
            "power",
            "power off",
            "price flush=1",
            "counters all",
            "save",
            "frobnicate",
        ] {
            assert!(Command::parse(line).is_err(), "{line}");
        }
    }
}
