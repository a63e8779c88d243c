//! URIs of stores.

use std::path::PathBuf;

use momentlog_core::Profile;

use crate::error::{Error, ErrorCode, ErrorDomain, Result};

/// The URI of libvirt's test driver: a store in memory, with the built-in domain.
pub(crate) const TEST_URI: &str = "test:///default";

/// Returns the directory of the store that a URI names; `None` for one in memory.
///
/// # Errors
///
/// [`ErrorCode::NoConnect`] if the URI names no store.
pub fn store_directory(uri: &str) -> Result<Option<PathBuf>> {
    if uri == TEST_URI {
        return Ok(None);
    }
    parse_store_uri(uri).map(|store| Some(store.path.into()))
}

/// What `momentlog:…` names.
pub(crate) struct StoreUri<'a> {
    /// The directory.
    pub(crate) path: &'a str,
    /// The profile that a new store is to have.
    pub(crate) profile: Option<Profile>,
    /// The driver that asks the hypervisors of attached domains.
    pub(crate) driver: Option<&'a str>,
}

/// Reads `momentlog:…`.
pub(crate) fn parse_store_uri(uri: &str) -> Result<StoreUri<'_>> {
    let unknown = |why: &str| {
        let detail = format!("{uri}{why}");
        Err(Error::new(ErrorCode::NoConnect, ErrorDomain::None, detail))
    };
    let Some(rest) = uri.strip_prefix("momentlog:") else {
        return unknown("");
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut profile = None;
    let mut driver = None;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("profile", "libvirt-test")) => profile = Some(Profile::LibvirtTest),
            Some(("profile", "own")) => profile = Some(Profile::Own),
            Some(("driver", name)) if !name.is_empty() => driver = Some(name),
            _ => {
                return unknown(
                    " (a store takes profile=libvirt-test, profile=own or driver=qemu)",
                );
            }
        }
    }
    let path = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return unknown(" (write momentlog:///absolute/dir or momentlog:relative/dir)");
        }
        None => path,
    };
    if path.is_empty() {
        return unknown(" (the directory is missing)");
    }
    // A shell replaces it only at the front of a word: a directory of that name is a mistake.
    if path
        .trim_start_matches('/')
        .split('/')
        .next()
        .is_some_and(|first| first.starts_with('~'))
    {
        return unknown(
            " (`~` is not replaced here: write the directory, or ./~ for one of that name)",
        );
    }
    Ok(StoreUri {
        path,
        profile,
        driver,
    })
}
