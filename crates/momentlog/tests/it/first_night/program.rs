use momentlog::{CheckpointCreateFlags, Connection};

pub(super) fn main(uri: &str) -> Result<(), momentlog::Error> {
    let store = Connection::open(uri)?;
    let vm = store.lookup_domain_by_name("web01")?;
    let checkpoint =
        vm.checkpoint_create_xml("<domaincheckpoint/>", CheckpointCreateFlags::NONE)?;
    match checkpoint.parent()? {
        Some(before) => println!("back up what changed since {}", before.name()),
        None => println!("back up everything"),
    }
    Ok(())
}
