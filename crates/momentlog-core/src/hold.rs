//! Holds: marks on moments that are to be kept, each with who set it and since when.

use std::fmt;
use std::sync::Arc;

use crate::{IdRuns, MomentId};

/// Longest tag of a hold, in bytes.
const TAG_LEN_MAX: usize = 64;

/// The tag by which a hold is known at its moment: 1 to 64 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTag(Arc<str>);

impl HoldTag {
    /// Returns the tag, or `None` if `text` is empty, longer than 64 bytes, or holds a control character.
    pub fn new(text: &str) -> Option<HoldTag> {
        let fits = !text.is_empty() && text.len() <= TAG_LEN_MAX;
        (fits && !text.contains(char::is_control)).then(|| HoldTag(text.into()))
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HoldTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known of a hold besides its moment and its tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// Who set it, in 1 to [`Hold::BY_LEN_MAX`] bytes.
    pub by: Arc<str>,
}

impl Hold {
    /// Longest name of who set a hold, in bytes.
    pub const BY_LEN_MAX: usize = 256;

    /// Whether it can be recorded: who set it is named, within the bound.
    pub fn is_recordable(&self) -> bool {
        (1..=Hold::BY_LEN_MAX).contains(&self.by.len())
    }
}

/// A second since 1970 as its day in UTC, `2026-11-23`.
pub(crate) struct Day(pub(crate) i64);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 24 * 60 * 60;
        /// Days of 400 years, after which the calendar repeats itself.
        const ERA: i64 = 146_097;
        // Days since the first of March of the year 0, so that a leap day is the last of its year.
        let days = self.0.div_euclid(DAY) + 719_468;
        let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// The holds of one domain's moments, by moment and tag. A moment without holds takes no room here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds(im::OrdMap<(MomentId, HoldTag), Hold>);

impl Holds {
    /// Returns the holds of a moment, by tag. O(log n) before the first.
    pub fn of(&self, id: MomentId) -> impl Iterator<Item = (&HoldTag, &Hold)> {
        self.from(id)
            .take_while(move |((other, _), _)| *other == id)
            .map(|((_, tag), hold)| (tag, hold))
    }

    /// Returns all holds, by moment and tag.
    pub fn iter(&self) -> impl Iterator<Item = (MomentId, &HoldTag, &Hold)> {
        self.0.iter().map(|((id, tag), hold)| (*id, tag, hold))
    }

    /// Number of holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no hold.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a hold; returns false, and changes nothing, if the moment has one with that tag.
    #[must_use]
    pub fn add(&mut self, id: MomentId, tag: HoldTag, hold: Hold) -> bool {
        let key = (id, tag);
        let is_new = !self.0.contains_key(&key);
        if is_new {
            self.0.insert(key, hold);
        }
        is_new
    }

    /// Takes a hold away; returns whether it was there.
    pub(crate) fn remove(&mut self, id: MomentId, tag: &HoldTag) -> bool {
        self.0.remove(&(id, tag.clone())).is_some()
    }

    /// Takes away all holds of moments that are gone.
    pub(crate) fn forget(&mut self, gone: &IdRuns) {
        if self.is_empty() {
            return;
        }
        for (first, length) in gone.runs() {
            let end = first.get() + length;
            let held: Vec<_> = self
                .from(*first)
                .map(|(key, _)| key)
                .take_while(|(id, _)| id.get() < end)
                .cloned()
                .collect();
            for key in held {
                self.0.remove(&key);
            }
        }
    }

    fn from(&self, id: MomentId) -> impl Iterator<Item = (&(MomentId, HoldTag), &Hold)> {
        // No tag is empty, so that this comes before all of the moment.
        self.0.range((id, HoldTag("".into()))..)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_day_is_that_of_the_calendar() {
        for (second, day) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_564_800, "2026-11-25"),
            (1_835_395_199, "2028-02-28"),
            (1_835_395_200, "2028-02-29"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(super::Day(second).to_string(), day);
        }
        assert!(super::Day(i64::MAX).to_string().ends_with("-04"));
        assert!(!super::Day(i64::MIN).to_string().is_empty());
    }

    use super::*;

    fn id(number: u64) -> MomentId {
        MomentId::new(number).unwrap()
    }

    fn hold() -> Hold {
        Hold {
            since: 1,
            by: "anna".into(),
        }
    }

    #[test]
    fn tags_are_bounded() {
        for good in ["a", "é", " ", &"x".repeat(64)] {
            assert!(HoldTag::new(good).is_some(), "{good}");
        }
        for bad in ["", "a\nb", "\0", "\u{85}", &"x".repeat(65)] {
            assert_eq!(HoldTag::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn holds_of_moments_that_are_gone_are_forgotten_and_others_stay() {
        let mut holds = Holds::default();
        let tag = |text| HoldTag::new(text).unwrap();
        for number in [1, 3, 4, 5, 9] {
            assert!(holds.add(id(number), tag("a"), hold()));
            assert!(holds.add(id(number), tag("b"), hold()));
            assert!(!holds.add(id(number), tag("a"), hold()));
        }
        holds.forget(&IdRuns::from_ids(vec![id(2), id(3), id(4), id(7), id(9)]));
        let left: Vec<u64> = holds.iter().map(|(id, _, _)| id.get()).collect();
        assert_eq!(left, [1, 1, 5, 5]);
        assert_eq!(holds.of(id(5)).count(), 2);
        assert_eq!(holds.of(id(4)).count(), 0);
        assert!(holds.remove(id(5), &tag("a")));
        assert!(!holds.remove(id(5), &tag("a")));
        let tags: Vec<&str> = holds.of(id(5)).map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(tags, ["b"]);
    }
}
