//! What a store does that keeps images, and an archive.

use momentlog::store::{Head, Record, Retention, Seq, Store, StoreError};

use super::{
    Breach, LOG, NewStore, SHORT, append, done, draft, drafts, end_of, holds, outlined, read, same,
    scan,
};
use crate::sim_disk::SimDisk;

/// The newest image is given out, and only one that is of a record of the log.
pub(super) fn images(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    if store.retention().is_none() {
        return Ok(());
    }
    let before = latest(store, None);
    let is_none = matches!(before, Ok(None) | Err(StoreError::Missing { .. }));
    holds("an empty log has no image", is_none, &before)?;
    done(
        "a store that nobody writes is acquired",
        store.acquire(SHORT),
    )?;
    let mut end = None;
    let mut made: Vec<(Head, Vec<u8>)> = Vec::new();
    for body in ["one", "two", "three"] {
        end = end_of(&done(
            "a writer appends",
            store.append(LOG, end, drafts(&[body])),
        )?);
        let rule = "a writer keeps an image";
        let writer = done(rule, kept(store).image_writer())?;
        let head = end.expect("a record was appended");
        end = end_of(&done(
            "a writer appends while an image is made",
            store.append(LOG, end, drafts(&["meanwhile"])),
        )?);
        let written = std::thread::scope(|scope| {
            let writing = scope.spawn(|| writer(body.as_bytes()));
            writing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let of = done("an image is written beside the writers", written)?;
        same(
            "an image is of the record at the end of the log when it was asked for",
            &of,
            &head,
        )?;
        made.push((head, body.as_bytes().to_vec()));
        let rule = "the newest image is given out, with the record that it is of";
        same(
            rule,
            &done(rule, latest(store, None))?,
            &made.last().cloned(),
        )?;
    }
    for most in 1..=6 {
        let most = Seq::new(most).expect("it is not 0");
        let rule = "an image that is given out is at or before the record that is named, and as it was written";
        if let Some(image) = done(rule, latest(store, Some(most)))? {
            holds(rule, image.0.seq <= most && made.contains(&image), &image)?;
        }
    }
    store.release();
    if let Some(open) = &new.open {
        let rule = "another handle gives out the newest image";
        same(
            rule,
            &done(rule, latest(open().as_mut(), None))?,
            &made.last().cloned(),
        )?;
    }
    Ok(())
}

type Image = (Head, Vec<u8>);

/// What a store keeps beside its records, after it was seen that it does.
fn kept(store: &mut dyn Store) -> &mut dyn Retention {
    store.retention().expect("a store has it, or has it not")
}

fn latest(store: &mut dyn Store, most: Option<Seq>) -> Result<Option<Image>, StoreError> {
    store
        .retention()
        .map_or(Ok(None), |retention| retention.latest_image(most))
}

/// An archived log begins with its image and the bridge.
pub(super) fn an_archive(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    if store.retention().is_none() {
        return Ok(());
    }
    done(
        "a store that nobody writes is acquired",
        store.acquire(SHORT),
    )?;
    let all = done(
        "a writer appends",
        store.append(LOG, None, drafts(&["a", "b"])),
    )?;
    let end = all[1].head();
    let rule = "a whole log has no start";
    same(rule, &done(rule, kept(store).start())?, &None)?;
    let writer = done("a writer keeps an image", kept(store).image_writer())?;
    done("an image is written", writer(b"image"))?;
    let archive = SimDisk::new("archive");
    let bridge = match kept(store).archive(end, draft("bridge"), &archive) {
        Err(StoreError::Unsupported { .. }) => return Ok(()),
        archived => done("records are archived", archived)?,
    };
    let wanted = Record::new(LOG, Some(end), bridge.durable, draft("bridge"));
    same(
        "an archive is bridged by the record after the last one",
        &bridge,
        &wanted,
    )?;
    store.release();
    let check = |store: &mut dyn Store| {
        let start = kept(store).start();
        let rule = "an archived log begins behind the last record that was moved";
        same(rule, &done(rule, start)?, &Some(end))?;
        same(
            rule,
            &done(rule, read(store, Some(end)))?,
            &vec![bridge.clone()],
        )?;
        let gone = read(store, None);
        let rule = "records that were moved are said to be archived";
        holds(
            rule,
            matches!(gone, Err(StoreError::Archived { start, .. }) if start == end),
            &gone,
        )?;
        let scanned = scan(store, None);
        holds(
            rule,
            matches!(scanned, Err(StoreError::Archived { start, .. }) if start == end),
            &scanned,
        )?;
        let rule = "a scan gives out what is not archived";
        let wanted = outlined(std::slice::from_ref(&bridge));
        same(rule, &done(rule, scan(store, Some(end)))?, &wanted)?;
        for number in 0..=4 {
            let rule = "a search finds what is not archived, and nothing else";
            let wanted = (number >= bridge.seq.get()).then(|| bridge.clone());
            let last = store.last_where(&mut |outline| outline.seq.get() <= number);
            same(rule, &done(rule, last)?, &wanted)?;
            if let Some(at) = Seq::new(number) {
                let wanted = wanted.filter(|bridge| bridge.seq == at);
                same(rule, &done(rule, store.record(at))?, &wanted)?;
            }
        }
        let rule = "an archived log keeps the image that it begins with";
        let image = Some((end, b"image".to_vec()));
        same(rule, &done(rule, latest(store, Some(end.seq)))?, &image)
    };
    check(store)?;
    if let Some(open) = &new.open {
        check(open().as_mut())?;
    }
    append(store, Some(bridge.head()), &["after"]).map(|_| ())
}
