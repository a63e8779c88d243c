//! What the messages of the remote program carry: the table of its procedures, and a codec for what the table says.
//!
//! A procedure is a row: its number, its name, what its call and its reply carry, and who may make the call. The codec goes
//! by the row in both directions, so that a server and a proxy need no code for a procedure that they only hand on.

mod table;

use std::borrow::Cow;

use crate::frame::PAYLOAD_LEN_MAX;
use crate::xdr::{DecodeError, EncodeError, Reader, Text, Writer};

/// Most entries of a list of domains, moments, or names of them.
pub const LIST_COUNT_MAX: usize = 16_384;

/// Most statistics of one domain.
const PARAMS_COUNT_MAX: usize = 262_144;

/// Characters of a processor's model.
const MODEL_LEN: usize = 32;

/// A procedure of the remote program.
#[derive(Clone, Copy, Debug)]
pub struct Procedure {
    /// Its number.
    pub number: i32,
    /// Its name in the protocol, without the prefix that all have.
    pub name: &'static str,
    /// What a call carries.
    pub arguments: &'static [Shape],
    /// What its reply carries.
    pub answer: &'static [Shape],
    /// Who may make the call.
    pub access: Access,
    /// For whom it is.
    pub tier: Tier,
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any connection.
    Read,
    /// Any connection; one for reading only without these flags.
    ReadUnless(u32),
    /// No connection for reading only.
    Write,
}

/// What a procedure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The connection.
    Connection,
    /// Domains.
    Domains,
    /// Checkpoints.
    Checkpoints,
    /// Snapshots.
    Snapshots,
    /// Events.
    Events,
    /// What clients show beside it.
    Details,
    /// Backups.
    Backups,
}

/// An event of the remote program: a message that no call asked for.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its number.
    pub number: i32,
    /// Its name in the protocol.
    pub name: &'static str,
    /// What it carries.
    pub fields: &'static [Shape],
}

impl Procedure {
    /// All of them, by number.
    pub const ALL: &'static [Procedure] = table::PROCEDURES;

    /// Returns the procedure of this number, if the table has it.
    pub fn by_number(number: i32) -> Option<&'static Procedure> {
        let found = Procedure::ALL.binary_search_by_key(&number, |one| one.number);
        found.ok().map(|index| &Procedure::ALL[index])
    }
}

impl Event {
    /// All of them, by number.
    pub const ALL: &'static [Event] = table::EVENTS;

    /// What happened to a domain, for a callback without a number: the domain, the event and its detail.
    pub const LIFECYCLE_UNNUMBERED: &'static Event = &table::EVENTS[0];

    /// What happened to a domain, for a callback that was registered with a number: that number, the domain, the event and
    /// its detail.
    pub const LIFECYCLE: &'static Event = &table::EVENTS[1];
}

/// What a field of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A signed word.
    Int,
    /// An unsigned word: most often flags.
    UInt,
    /// Two words: an unsigned number.
    ULong,
    /// A text.
    Text,
    /// A text, or none.
    OptText,
    /// A uuid.
    Uuid,
    /// A domain.
    Domain,
    /// A domain, or none.
    OptDomain,
    /// A snapshot or a checkpoint.
    Moment,
    /// Signed words, at most this many.
    Ints(usize),
    /// Texts, at most this many.
    Texts(usize),
    /// Characters, each a word, at most this many.
    Chars(usize),
    /// Domains.
    Domains,
    /// Snapshots or checkpoints.
    Moments,
    /// The model of a processor: 32 characters, each a word.
    Model,
    /// Statistics of domains.
    Stats,
    /// Names and values, at most this many.
    Params(usize),
}

/// What a field of a message holds: one variant for each [`Shape`].
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the shape of the same name")]
pub enum Value<'a> {
    Int(i32),
    UInt(u32),
    ULong(u64),
    Text(Text<'a>),
    OptText(Option<Text<'a>>),
    Uuid([u8; 16]),
    Domain(DomainRef<'a>),
    OptDomain(Option<DomainRef<'a>>),
    Moment(MomentRef<'a>),
    Ints(Vec<i32>),
    Texts(Vec<Text<'a>>),
    Chars(Vec<u8>),
    Domains(Vec<DomainRef<'a>>),
    Moments(Vec<MomentRef<'a>>),
    Model([u8; MODEL_LEN]),
    Stats(Vec<Stats<'a>>),
    Params(Params<'a>),
}

/// A domain, as messages name it. Servers look at its uuid alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRef<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// Its uuid.
    pub uuid: [u8; 16],
    /// Its number; -1 if it is off.
    pub id: i32,
}

/// A snapshot or a checkpoint, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentRef<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// Its domain.
    pub domain: DomainRef<'a>,
}

/// Statistics of a domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats<'a> {
    /// The domain.
    pub domain: DomainRef<'a>,
    /// Names and values.
    pub params: Params<'a>,
}

/// Values, each under its name.
pub type Params<'a> = Vec<(Text<'a>, Param<'a>)>;

/// A value of its own type.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the C type of that name")]
pub enum Param<'a> {
    Int(i32),
    UInt(u32),
    LLong(i64),
    ULLong(u64),
    Double(f64),
    Boolean(i32),
    String(Text<'a>),
}

/// Reads the fields of a message. What is left behind them is not looked at; [`Reader::is_exact`] tells.
///
/// # Errors
///
/// [`DecodeError`] if the bytes end early or claim more than the protocol allows.
pub fn decode<'a>(shapes: &[Shape], from: &mut Reader<'a>) -> Result<Vec<Value<'a>>, DecodeError> {
    shapes.iter().map(|shape| read(*shape, from)).collect()
}

/// Returns the payload that has these fields.
///
/// # Errors
///
/// [`EncodeError`] if a client could not read it; [`EncodeError::Shape`] if the values are not of these shapes.
pub fn encode(shapes: &[Shape], values: &[Value<'_>]) -> Result<Vec<u8>, EncodeError> {
    if shapes.len() != values.len() {
        return Err(EncodeError::Shape);
    }
    let mut to = Writer::default();
    for (shape, value) in shapes.iter().zip(values) {
        write(*shape, value, &mut to)?;
    }
    to.finish(PAYLOAD_LEN_MAX)
}

fn read<'a>(shape: Shape, from: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    Ok(match shape {
        Shape::Int => Value::Int(from.i32()?),
        Shape::UInt => Value::UInt(from.u32()?),
        Shape::ULong => Value::ULong(from.u64()?),
        Shape::Text => Value::Text(from.text()?.into()),
        Shape::OptText => Value::OptText(optional(from, |from| Ok(from.text()?.into()))?),
        Shape::Uuid => Value::Uuid(from.uuid()?),
        Shape::Domain => Value::Domain(DomainRef::read(from)?),
        Shape::OptDomain => Value::OptDomain(optional(from, DomainRef::read)?),
        Shape::Moment => Value::Moment(MomentRef::read(from)?),
        Shape::Ints(max) => Value::Ints(from.list(max, Reader::i32)?),
        Shape::Texts(max) => Value::Texts(from.list(max, |from| Ok(from.text()?.into()))?),
        Shape::Chars(max) => Value::Chars(from.list(max, Reader::char)?),
        Shape::Domains => Value::Domains(from.list(LIST_COUNT_MAX, DomainRef::read)?),
        Shape::Moments => Value::Moments(from.list(LIST_COUNT_MAX, MomentRef::read)?),
        Shape::Model => {
            let mut model = [0; MODEL_LEN];
            for char in &mut model {
                *char = from.char()?;
            }
            Value::Model(model)
        }
        Shape::Stats => Value::Stats(from.list(LIST_COUNT_MAX, Stats::read)?),
        Shape::Params(max) => Value::Params(params(from, max)?),
    })
}

fn write(shape: Shape, value: &Value<'_>, to: &mut Writer) -> Result<(), EncodeError> {
    match (shape, value) {
        (Shape::Int, Value::Int(word)) => to.i32(*word),
        (Shape::UInt, Value::UInt(word)) => to.u32(*word),
        (Shape::ULong, Value::ULong(number)) => to.u64(*number),
        (Shape::Text, Value::Text(text)) => to.text(text)?,
        (Shape::OptText, Value::OptText(text)) => {
            present(text.as_ref(), to, |text, to| to.text(text))?;
        }
        (Shape::Uuid, Value::Uuid(uuid)) => to.uuid(*uuid),
        (Shape::Domain, Value::Domain(domain)) => domain.write(to)?,
        (Shape::OptDomain, Value::OptDomain(domain)) => {
            present(domain.as_ref(), to, DomainRef::write)?;
        }
        (Shape::Moment, Value::Moment(moment)) => moment.write(to)?,
        (Shape::Ints(max), Value::Ints(words)) => to.list(words, max, |to, word| {
            to.i32(*word);
            Ok(())
        })?,
        (Shape::Texts(max), Value::Texts(texts)) => {
            to.list(texts, max, |to, text| to.text(text))?;
        }
        (Shape::Chars(max), Value::Chars(chars)) => to.list(chars, max, |to, char| {
            to.char(*char);
            Ok(())
        })?,
        (Shape::Domains, Value::Domains(domains)) => {
            to.list(domains, LIST_COUNT_MAX, |to, one| one.write(to))?;
        }
        (Shape::Moments, Value::Moments(moments)) => {
            to.list(moments, LIST_COUNT_MAX, |to, one| one.write(to))?;
        }
        (Shape::Model, Value::Model(model)) => model.iter().for_each(|char| to.char(*char)),
        (Shape::Stats, Value::Stats(stats)) => {
            to.list(stats, LIST_COUNT_MAX, |to, one| one.write(to))?;
        }
        (Shape::Params(max), Value::Params(params)) => write_params(params, max, to)?,
        _ => return Err(EncodeError::Shape),
    }
    Ok(())
}

fn params<'a>(from: &mut Reader<'a>, max: usize) -> Result<Params<'a>, DecodeError> {
    from.list(max, |from| Ok((from.text()?.into(), Param::read(from)?)))
}

fn write_params(params: &Params<'_>, max: usize, to: &mut Writer) -> Result<(), EncodeError> {
    to.list(params, max, |to, (name, param)| {
        to.text(name)?;
        param.write(to)
    })
}

fn optional<'a, T>(
    from: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    from.is_present()?.then(|| read(from)).transpose()
}

fn present<T>(
    value: Option<&T>,
    to: &mut Writer,
    write: impl FnOnce(&T, &mut Writer) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    to.is_present(value.is_some());
    value.map_or(Ok(()), |value| write(value, to))
}

impl<'a> DomainRef<'a> {
    fn read(from: &mut Reader<'a>) -> Result<DomainRef<'a>, DecodeError> {
        Ok(DomainRef {
            name: from.text()?.into(),
            uuid: from.uuid()?,
            id: from.i32()?,
        })
    }

    fn write(&self, to: &mut Writer) -> Result<(), EncodeError> {
        to.text(&self.name)?;
        to.uuid(self.uuid);
        to.i32(self.id);
        Ok(())
    }
}

impl<'a> MomentRef<'a> {
    fn read(from: &mut Reader<'a>) -> Result<MomentRef<'a>, DecodeError> {
        Ok(MomentRef {
            name: from.text()?.into(),
            domain: DomainRef::read(from)?,
        })
    }

    fn write(&self, to: &mut Writer) -> Result<(), EncodeError> {
        to.text(&self.name)?;
        self.domain.write(to)
    }
}

impl<'a> Stats<'a> {
    fn read(from: &mut Reader<'a>) -> Result<Stats<'a>, DecodeError> {
        Ok(Stats {
            domain: DomainRef::read(from)?,
            params: params(from, PARAMS_COUNT_MAX)?,
        })
    }

    fn write(&self, to: &mut Writer) -> Result<(), EncodeError> {
        self.domain.write(to)?;
        write_params(&self.params, PARAMS_COUNT_MAX, to)
    }
}

impl<'a> Param<'a> {
    fn read(from: &mut Reader<'a>) -> Result<Param<'a>, DecodeError> {
        Ok(match from.i32()? {
            1 => Param::Int(from.i32()?),
            2 => Param::UInt(from.u32()?),
            3 => Param::LLong(from.u64()?.cast_signed()),
            4 => Param::ULLong(from.u64()?),
            5 => Param::Double(f64::from_bits(from.u64()?)),
            6 => Param::Boolean(from.i32()?),
            7 => Param::String(from.text()?.into()),
            arm => return Err(DecodeError::Arm(arm)),
        })
    }

    fn write(&self, to: &mut Writer) -> Result<(), EncodeError> {
        let arm = match self {
            Param::Int(_) => 1,
            Param::UInt(_) => 2,
            Param::LLong(_) => 3,
            Param::ULLong(_) => 4,
            Param::Double(_) => 5,
            Param::Boolean(_) => 6,
            Param::String(_) => 7,
        };
        to.i32(arm);
        match self {
            Param::Int(word) | Param::Boolean(word) => to.i32(*word),
            Param::UInt(word) => to.u32(*word),
            Param::LLong(number) => to.u64(number.cast_unsigned()),
            Param::ULLong(number) => to.u64(*number),
            Param::Double(number) => to.u64(number.to_bits()),
            Param::String(text) => to.text(text)?,
        }
        Ok(())
    }
}

/// What a reply of status [`ERROR`](crate::frame::Status::ERROR) carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError<'a> {
    /// The `virErrorNumber`.
    pub code: i32,
    /// The `virErrorDomain`.
    pub domain: i32,
    /// The whole message. Clients that get none show nothing useful.
    pub message: Option<Text<'a>>,
    /// How bad it is: 2 is an error.
    pub level: i32,
    /// The domain it is about.
    pub about: Option<DomainRef<'a>>,
    /// The pattern of the message, its detail, and one more text.
    pub texts: [Option<Text<'a>>; 3],
    /// Two numbers: -1 where there are none.
    pub numbers: [i32; 2],
    /// Name and uuid of the network it is about.
    pub network: Option<(Text<'a>, [u8; 16])>,
}

impl<'a> RemoteError<'a> {
    /// Reads the error of a reply.
    ///
    /// # Errors
    ///
    /// As [`decode`].
    pub fn decode(from: &mut Reader<'a>) -> Result<RemoteError<'a>, DecodeError> {
        let text = |from: &mut Reader<'a>| Ok(Cow::from(from.text()?));
        Ok(RemoteError {
            code: from.i32()?,
            domain: from.i32()?,
            message: optional(from, text)?,
            level: from.i32()?,
            about: optional(from, DomainRef::read)?,
            texts: [
                optional(from, text)?,
                optional(from, text)?,
                optional(from, text)?,
            ],
            numbers: [from.i32()?, from.i32()?],
            network: optional(from, |from| Ok((text(from)?, from.uuid()?)))?,
        })
    }

    /// Returns the payload of the reply.
    ///
    /// # Errors
    ///
    /// As [`encode`].
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut to = Writer::default();
        to.i32(self.code);
        to.i32(self.domain);
        present(self.message.as_ref(), &mut to, |text, to| to.text(text))?;
        to.i32(self.level);
        present(self.about.as_ref(), &mut to, DomainRef::write)?;
        for text in &self.texts {
            present(text.as_ref(), &mut to, |text, to| to.text(text))?;
        }
        self.numbers.iter().for_each(|number| to.i32(*number));
        present(self.network.as_ref(), &mut to, |(name, uuid), to| {
            to.text(name)?;
            to.uuid(*uuid);
            Ok(())
        })?;
        to.finish(PAYLOAD_LEN_MAX)
    }
}
