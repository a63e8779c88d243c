//! The lists of the model.

use std::collections::BTreeSet;

use momentlog::core::SnapshotState;

use super::Reason;

/// One moment of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) name: String,
    pub(super) parent: Option<String>,
    pub(super) state: SnapshotState,
}

/// One list of the model: moments, newest link first, and which is current.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) moments: Vec<Moment>,
    pub(super) current: Option<String>,
}

impl List {
    pub(super) fn find(&self, name: &str) -> Option<&Moment> {
        self.moments.iter().find(|moment| moment.name == name)
    }

    pub(super) fn children(&self, parent: Option<&str>) -> Vec<&Moment> {
        self.moments
            .iter()
            .filter(|moment| moment.parent.as_deref() == parent)
            .collect()
    }

    /// Everything below `parent`, parents first.
    pub(super) fn below(&self, parent: Option<&str>) -> Vec<&Moment> {
        let below = |child: &Moment| {
            self.below(Some(&child.name))
                .into_iter()
                .cloned()
                .collect::<Vec<_>>()
        };
        let names: Vec<String> = self
            .children(parent)
            .into_iter()
            .flat_map(|child| std::iter::once(child.clone()).chain(below(child)))
            .map(|moment| moment.name)
            .collect();
        names
            .iter()
            .map(|name| self.find(name).expect("it was just found"))
            .collect()
    }

    pub(super) fn may_hang(&self, name: &str, parent: Option<&str>) -> Result<(), Reason> {
        let Some(parent) = parent else {
            return Ok(());
        };
        if parent == name {
            return Err(Reason::OwnParent);
        }
        if self.find(parent).is_none() {
            return Err(Reason::ParentMissing);
        }
        if self.find(name).is_some()
            && self
                .below(Some(name))
                .iter()
                .any(|moment| moment.name == parent)
        {
            return Err(Reason::Cycle);
        }
        Ok(())
    }

    /// Links a moment in front of all others.
    pub(super) fn link(&mut self, moment: Moment) {
        self.moments.retain(|other| other.name != moment.name);
        self.moments.insert(0, moment);
    }

    /// What a deletion takes.
    pub(super) fn taken(&self, name: &str, extent: u8) -> BTreeSet<String> {
        let below = self.below(Some(name)).into_iter();
        let below = below.map(|moment| moment.name.clone());
        let own = || std::iter::once(name.to_owned());
        match extent % 3 {
            0 => own().collect(),
            1 => below.chain(own()).collect(),
            _ => below.collect(),
        }
    }

    pub(super) fn delete(&mut self, name: &str, extent: u8) -> Result<(), Reason> {
        let parent = self.find(name).ok_or(Reason::NoMoment)?.parent.clone();
        let below: BTreeSet<String> = self
            .below(Some(name))
            .iter()
            .map(|moment| moment.name.clone())
            .collect();
        let gone = |current: &Option<String>, names: &BTreeSet<String>| {
            current
                .as_ref()
                .is_some_and(|current| names.contains(current))
        };
        match extent % 3 {
            0 => {
                let (mut moved, rest): (Vec<Moment>, Vec<Moment>) = self
                    .moments
                    .drain(..)
                    .partition(|moment| moment.parent.as_deref() == Some(name));
                for child in &mut moved {
                    child.parent.clone_from(&parent);
                }
                moved.extend(rest);
                self.moments = moved;
                self.moments.retain(|moment| moment.name != name);
                if self.current.as_deref() == Some(name) {
                    self.current = parent;
                }
            }
            1 => {
                self.moments
                    .retain(|moment| moment.name != name && !below.contains(&moment.name));
                if self.current.as_deref() == Some(name) || gone(&self.current, &below) {
                    self.current = parent;
                }
            }
            _ => {
                self.moments.retain(|moment| !below.contains(&moment.name));
                if gone(&self.current, &below) {
                    self.current = Some(name.to_owned());
                }
            }
        }
        Ok(())
    }

    pub(super) fn is_chain(&self) -> bool {
        let single = |parent: Option<&str>| self.children(parent).len() <= 1;
        single(None) && self.moments.iter().all(|moment| single(Some(&moment.name)))
    }

    pub(super) fn leaf(&self) -> Option<&str> {
        let leaf = self
            .moments
            .iter()
            .find(|moment| self.children(Some(&moment.name)).is_empty());
        leaf.map(|moment| moment.name.as_str())
    }
}
