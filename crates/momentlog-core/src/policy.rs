//! The rules of a domain, whether it meets them, and what they let happen.

use crate::{Domain, MomentKind, Refusal};

/// The rules that a domain's commands follow, each removable by one recorded event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each rule is on or off, independent of the others"
)]
pub struct Policy {
    /// Snapshots and checkpoints exclude each other.
    pub exclusive: bool,
    /// Checkpoints form one chain: one root, one child each, and the current one is the leaf.
    pub chain: bool,
    /// Creating and redefining checkpoints needs an active domain.
    pub active: bool,
    /// A nameless moment whose second is taken gets the suffix `-2`, `-3`, … instead of being refused.
    pub suffix: bool,
    /// External snapshots may get a made-up file name, without a look at the host's files.
    pub overlays: bool,
}

/// One rule of a policy: its name, and its number in what is stored, in one place.
///
/// A new rule is a new variant here, a field of [`Policy`], and a row of the table in `docs/format.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// [`Policy::exclusive`].
    Exclusive,
    /// [`Policy::chain`].
    Chain,
    /// [`Policy::active`].
    Active,
    /// [`Policy::suffix`].
    Suffix,
    /// [`Policy::overlays`].
    Overlays,
}

impl Rule {
    /// All rules, by number.
    pub const ALL: [Rule; 5] = [
        Rule::Exclusive,
        Rule::Chain,
        Rule::Active,
        Rule::Suffix,
        Rule::Overlays,
    ];

    /// The number, which is never reused.
    pub fn number(self) -> u16 {
        match self {
            Rule::Exclusive => 1,
            Rule::Chain => 2,
            Rule::Active => 3,
            Rule::Suffix => 4,
            Rule::Overlays => 5,
        }
    }

    /// Returns the rule of a number, if there is one.
    pub fn from_number(number: u16) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.number() == number)
    }

    /// The name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Exclusive => "exclusive",
            Rule::Chain => "chain",
            Rule::Active => "active",
            Rule::Suffix => "suffix",
            Rule::Overlays => "overlays",
        }
    }

    /// Returns the rule of a name, if there is one.
    pub fn from_name(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

impl Policy {
    /// No rule is on.
    pub const NONE: Policy = Policy {
        exclusive: false,
        chain: false,
        active: false,
        suffix: false,
        overlays: false,
    };

    /// The rules that are on, by number.
    pub fn rules(mut self) -> impl Iterator<Item = Rule> {
        Rule::ALL
            .into_iter()
            .filter(move |rule| *self.rule_mut(*rule))
    }

    /// Whether a rule is on.
    pub fn has(mut self, rule: Rule) -> bool {
        *self.rule_mut(rule)
    }

    /// The policy with a rule on or off.
    #[must_use]
    pub fn with(mut self, rule: Rule, on: bool) -> Policy {
        *self.rule_mut(rule) = on;
        self
    }

    fn rule_mut(&mut self, rule: Rule) -> &mut bool {
        match rule {
            Rule::Exclusive => &mut self.exclusive,
            Rule::Chain => &mut self.chain,
            Rule::Active => &mut self.active,
            Rule::Suffix => &mut self.suffix,
            Rule::Overlays => &mut self.overlays,
        }
    }
}

/// The set of rules that a store gives to new domains; recorded in its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// As libvirt's test driver: with the built-in domain `test`, and with its limits.
    LibvirtTest,
    /// As a store of record keeping should be.
    Own,
}

impl Profile {
    /// The policy of a new domain.
    pub fn policy(self) -> Policy {
        match self {
            Profile::LibvirtTest => Policy {
                exclusive: true,
                chain: false,
                active: true,
                suffix: false,
                overlays: false,
            },
            Profile::Own => Policy {
                exclusive: true,
                chain: true,
                active: false,
                suffix: true,
                overlays: true,
            },
        }
    }
}

/// How a domain breaks its own policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyBreach {
    /// Both kinds exist under `exclusive`.
    #[error("it has snapshots and checkpoints, which `exclusive` forbids")]
    NotExclusive,
    /// The checkpoints fork, or have several roots, under `chain`.
    #[error("its checkpoints do not form one chain, which `chain` asks for")]
    NotAChain,
    /// The current checkpoint is not the leaf under `chain`.
    #[error("its current checkpoint is not the leaf, which `chain` asks for")]
    CurrentNotLeaf,
}

impl Domain {
    /// Checks whether a moment of this kind may be created or redefined at all, before anything is known of it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Excluded`], then [`Refusal::CheckpointInactive`].
    pub fn admits(&self, kind: MomentKind) -> Result<(), Refusal> {
        let excluded = match kind {
            MomentKind::Snapshot => !self.checkpoints.is_empty(),
            MomentKind::Checkpoint => !self.snapshots.is_empty(),
        };
        if self.policy.exclusive && excluded {
            return Err(Refusal::Excluded { kind });
        }
        if kind == MomentKind::Checkpoint && self.policy.active && !self.power.is_active() {
            return Err(Refusal::CheckpointInactive);
        }
        Ok(())
    }

    /// Checks whether the guest may be halted after a snapshot.
    ///
    /// # Errors
    ///
    /// [`Refusal::HaltTransient`].
    pub fn admits_halt(&self) -> Result<(), Refusal> {
        if self.persistent {
            Ok(())
        } else {
            Err(Refusal::HaltTransient)
        }
    }

    /// Checks that the domain meets its own policy. O(checkpoints) under `chain`.
    ///
    /// # Errors
    ///
    /// The [`PolicyBreach`].
    pub fn check_policy(&self) -> Result<(), PolicyBreach> {
        self.meets(self.policy)
    }

    pub(crate) fn meets(&self, policy: Policy) -> Result<(), PolicyBreach> {
        if policy.exclusive && !self.snapshots.is_empty() && !self.checkpoints.is_empty() {
            return Err(PolicyBreach::NotExclusive);
        }
        if policy.chain && !self.checkpoints.is_empty() {
            let leaf = self.checkpoints.leaf().ok_or(PolicyBreach::NotAChain)?;
            if self.checkpoints.current_id() != Some(leaf.id) {
                return Err(PolicyBreach::CurrentNotLeaf);
            }
        }
        Ok(())
    }
}
