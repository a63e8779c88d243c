//! What commands about checkpoints cause.

use super::moments::{chosen_name, put_back, require_free};
use crate::checkpoint;
use crate::{
    CheckpointDef, CreateCheckpoint, DiskTracking, Domain, MomentChange, MomentId, MomentKind,
    MomentList, MomentName, Redefine, Refusal,
};

impl Domain {
    pub(super) fn create_checkpoint(
        &self,
        create: &CreateCheckpoint,
        id: MomentId,
    ) -> Result<MomentChange<CheckpointDef>, Refusal> {
        self.admits(MomentKind::Checkpoint)?;
        let name = chosen_name(
            &self.checkpoints,
            create.name.as_ref(),
            create.now,
            self.policy,
        );
        checkpoint_name(&name)?;
        let disks = checkpoint::align_disks(&create.disks, &self.def)?;
        require_free(&self.checkpoints, &name)?;
        let def = CheckpointDef {
            // An empty one means one that was erased.
            description: create.description.clone().filter(|text| !text.is_empty()),
            disks,
            domain: Some(self.def.clone()),
        };
        let current = self.checkpoints.current();
        Ok(MomentChange::Created {
            id,
            parent: current.map(|current| current.id),
            name,
            created: create.now,
            def: MomentList::share(def, current),
            current: true,
        })
    }

    pub(super) fn redefine_checkpoint(
        &self,
        redefine: &Redefine<CheckpointDef>,
        next: MomentId,
    ) -> Result<MomentChange<CheckpointDef>, Refusal> {
        let kind = MomentKind::Checkpoint;
        let name = &redefine.name;
        self.admits(kind)?;
        checkpoint_name(name)?;
        let parent = self
            .checkpoints
            .check_parent(name, redefine.parent.as_ref())?;
        self.own_uuid(kind, name, redefine.def.domain.as_deref())?;
        self.keeps_chain(name, redefine.parent.as_ref())?;
        let mut redefine = redefine.clone();
        let def = &mut redefine.def;
        def.description = def.description.take().filter(|text| !text.is_empty());
        def.disks = match &def.domain {
            Some(domain) => checkpoint::align_disks(&def.disks, domain)?,
            None => def
                .disks
                .iter()
                .map(|disk| unresolved(disk, name))
                .collect(),
        };
        redefine.current = match self.checkpoints.current_id() {
            None => true,
            leaf => parent == leaf,
        };
        Ok(put_back(&self.checkpoints, redefine, parent, next))
    }

    /// Refuses to hang a checkpoint anywhere but where it hangs or below the leaf, if the policy wants a chain.
    pub(super) fn keeps_chain(
        &self,
        name: &MomentName,
        parent: Option<&MomentName>,
    ) -> Result<(), Refusal> {
        let Some(leaf) = self.checkpoints.current().filter(|_| self.policy.chain) else {
            return Ok(());
        };
        let stays = match self.checkpoints.find(name.as_str()) {
            Some(moment) => self.checkpoints.parent(moment.id).map(|parent| parent.name) == parent,
            None => parent == Some(leaf.name),
        };
        if stays {
            Ok(())
        } else {
            Err(Refusal::Fork {
                domain: self.name.clone(),
                name: name.clone(),
                current: leaf.name.clone(),
            })
        }
    }

    /// Refuses to make another checkpoint than the leaf current, if the policy wants a chain.
    pub(super) fn keeps_leaf_current(&self, name: Option<&MomentName>) -> Result<(), Refusal> {
        match self.checkpoints.current() {
            Some(leaf) if self.policy.chain && name != Some(leaf.name) => {
                Err(Refusal::LeafIsCurrent {
                    domain: self.name.clone(),
                    current: leaf.name.clone(),
                })
            }
            _ => Ok(()),
        }
    }
}

fn checkpoint_name(name: &MomentName) -> Result<(), Refusal> {
    if MomentName::is_checkpoint_name(name.as_str()) {
        Ok(())
    } else {
        Err(Refusal::CheckpointName { name: name.clone() })
    }
}

/// A disk that no domain resolves: its name stays as given, and its bitmap must be named once and for all.
fn unresolved(disk: &checkpoint::CheckpointDisk, name: &MomentName) -> checkpoint::CheckpointDisk {
    let mut disk = disk.clone();
    if disk.tracking == DiskTracking::Bitmap(Some(name.as_str().into())) {
        disk.tracking = DiskTracking::Bitmap(None);
    }
    disk
}
