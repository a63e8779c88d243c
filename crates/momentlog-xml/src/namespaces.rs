//! Namespaces that an element takes from what is around it: cut out of its document, it needs their declarations.

use crate::document::{Element, declared};

/// A declaration from outside an element that something inside uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited<'d> {
    /// `xmlns`, or `xmlns:` and the prefix.
    pub(crate) key: &'d str,
    /// The namespace.
    pub(crate) uri: &'d str,
    /// The element that declares it when `root` is cut out: `root`, or its `<metadata>` if nothing else uses it.
    pub(crate) at: Element<'d>,
}

/// Returns the declarations around `root` that it uses, in the order in which they are first used.
pub(crate) fn inherited<'d>(root: Element<'d>) -> Vec<Inherited<'d>> {
    let outer = in_scope_around(root);
    let mut found: Vec<Inherited<'d>> = Vec::new();
    if outer.is_empty() {
        return found;
    }
    for element in root.descendants() {
        let own = element.name().split_once(':');
        let prefixes = element
            .attributes()
            .filter(|(key, _)| declared(key).is_none())
            .filter_map(|(key, _)| key.split_once(':'));
        let prefixes = std::iter::once(own.map_or("", |(prefix, _)| prefix))
            .chain(prefixes.map(|(prefix, _)| prefix));
        for prefix in prefixes {
            let Some(&(key, uri)) = outer.iter().find(|(key, _)| declared(key) == Some(prefix))
            else {
                continue;
            };
            if is_declared_within(element, root, prefix) {
                continue;
            }
            let at = metadata_around(element, root).unwrap_or(root);
            match found.iter_mut().find(|known| known.key == key) {
                Some(known) if known.at == at => {}
                Some(known) => known.at = root,
                None => found.push(Inherited { key, uri, at }),
            }
        }
    }
    found
}

/// The declarations in force right outside an element; those that bind a prefix to nothing are left out.
pub(crate) fn in_scope_around(root: Element<'_>) -> Vec<(&str, &str)> {
    let mut outer: Vec<(&str, &str)> = Vec::new();
    for ancestor in std::iter::successors(root.parent(), |element| element.parent()) {
        for (key, uri) in ancestor.attributes() {
            if declared(key).is_some() && outer.iter().all(|(known, _)| *known != key) {
                outer.push((key, uri));
            }
        }
    }
    outer.retain(|(_, uri)| !uri.is_empty());
    outer
}

fn is_declared_within(element: Element<'_>, root: Element<'_>, prefix: &str) -> bool {
    up_to(element, root).any(|ancestor| {
        ancestor
            .attributes()
            .any(|(key, _)| declared(key) == Some(prefix))
    })
}

/// The `<metadata>` of `root` that holds `element`, if one does.
fn metadata_around<'d>(element: Element<'d>, root: Element<'d>) -> Option<Element<'d>> {
    up_to(element, root).find(|ancestor| {
        ancestor.name() == "metadata" && ancestor.parent().is_some_and(|outer| outer == root)
    })
}

/// The element and those around it, up to `root`.
fn up_to<'d>(element: Element<'d>, root: Element<'d>) -> impl Iterator<Item = Element<'d>> {
    std::iter::successors(Some(element), move |inner| {
        inner.parent().filter(|_| *inner != root)
    })
}
