"""Asks for and sets title, description and metadata of a test driver's domain, and prints every answer.

The URI is the argument. What libvirt's own test driver answers is what the server must answer.
"""

import sys
from xml.etree.ElementTree import canonicalize, fromstring, tostring

import libvirt

libvirt.registerErrorHandler(lambda *ignored: None, None)
DESCRIPTION, TITLE, ELEMENT = range(3)
LIVE, CONFIG = 1, 2
XML = "<domain type='test'><name>x</name><memory>1024</memory><os><type>hvm</type></os></domain>"


def tell(what, ask):
    try:
        print(what, repr(ask()))
    except libvirt.libvirtError as error:
        # libxml2's wording is its own, and so is the uuid of a domain that is gone.
        message = str(error)
        if "(metadata_xml)" in message:
            message = message[: message.index("(metadata_xml)") + 14]
        if "uuid" in message:
            message = message[: message.index("uuid")]
        print(what, "refused:", error.get_error_code(), error.get_error_domain(), message)


def get(domain, kind, uri=None, flags=0):
    tell(f"get {kind} {uri!r} {flags}:", lambda: domain.metadata(kind, uri, flags))


def set_to(domain, kind, text, key=None, uri=None, flags=0):
    what = f"set {kind} {text!r} {key!r} {uri!r} {flags}:"
    tell(what, lambda: domain.setMetadata(kind, text, key, uri, flags))


def show(domain, flags=0):
    xml = fromstring(domain.XMLDesc(flags))
    told = [child for child in xml if child.tag in ("title", "description", "metadata")]
    for child in told:
        # A description keeps its blanks.
        is_text = child.tag != "metadata"
        if is_text or len(child):
            print(" ", canonicalize(tostring(child), strip_text=not is_text))


def element_answers(domain):
    set_to(domain, ELEMENT, "<a/>", None, "urn:x")
    set_to(domain, ELEMENT, "<a/>", "k", None)
    set_to(domain, ELEMENT, "<a/>", "k", "urn:x")
    set_to(domain, ELEMENT, "<b/>", "l", "urn:y")
    set_to(domain, ELEMENT, "<c y='1' z='&quot;&apos;&lt;&#10;'><d>t &amp; &gt;</d><e/></c>", "k", "urn:x")
    show(domain)
    for uri in ("urn:x", "urn:y", "urn:nowhere"):
        get(domain, ELEMENT, uri)
    set_to(domain, ELEMENT, "<p:b xmlns:p='urn:q' p:at='x'><p:c/><d/></p:b>", "m", "urn:w")
    get(domain, ELEMENT, "urn:w")
    get(domain, ELEMENT, "urn:q")
    set_to(domain, ELEMENT, "<b xmlns='urn:r'>1</b>", "n", "urn:z")
    get(domain, ELEMENT, "urn:z")
    get(domain, ELEMENT, "urn:r")
    set_to(domain, ELEMENT, "<a q:b='1' xmlns:q='u'><q:c/><!-- d --><?e f?><g/></a>", "o", "urn:o")
    get(domain, ELEMENT, "urn:o")
    show(domain)
    for text in ("<b", "text", "", "<a/><b/>"):
        set_to(domain, ELEMENT, text, "m", "urn:v")
    for key in ("1k", "a:b", "", "k<"):
        set_to(domain, ELEMENT, "<a/>", key, "urn:v")
    set_to(domain, ELEMENT, "<a xmlns:k='other'/>", "k", "urn:v")
    set_to(domain, ELEMENT, None, None, "urn:x")
    set_to(domain, ELEMENT, None, "k", "urn:y")
    set_to(domain, ELEMENT, None, None, "urn:nowhere")
    set_to(domain, ELEMENT, None, None, None)
    get(domain, ELEMENT, "urn:x")
    show(domain)
    for uri in ("urn:q", "urn:r", "urn:o"):
        set_to(domain, ELEMENT, None, None, uri)
    show(domain)


def main(uri):
    connection = libvirt.open(uri)
    domain = connection.lookupByName("test")
    for kind in (DESCRIPTION, TITLE, ELEMENT, 3):
        get(domain, kind)
        get(domain, kind, "urn:x")
    for flags in (1, 2, 3, 4, 7, 8):
        get(domain, DESCRIPTION, None, flags)
    for text in ("a < b", "two\n lines  ", "", None):
        set_to(domain, DESCRIPTION, text)
        get(domain, DESCRIPTION)
        show(domain)
    set_to(domain, DESCRIPTION, "described")
    set_to(domain, TITLE, "two\nlines", "k", "u", 4)
    set_to(domain, TITLE, "titled")
    set_to(domain, TITLE, "x", "k")
    set_to(domain, TITLE, "x", None, "u")
    set_to(domain, TITLE, "x", "k", "u")
    set_to(domain, TITLE, "x", None, None, 4)
    set_to(domain, 3, "x", "k", "u")
    set_to(domain, 3, "x", "k", "u", 4)
    show(domain)
    element_answers(domain)
    for flags in (LIVE, CONFIG, LIVE | CONFIG, 4, 8):
        set_to(domain, DESCRIPTION, f"by {flags}", None, None, flags)
        for asked in (0, LIVE, CONFIG):
            get(domain, DESCRIPTION, None, asked)
    set_to(domain, TITLE, "the guest's alone", None, None, LIVE)
    set_to(domain, DESCRIPTION, "the next start's alone", None, None, CONFIG)
    show(domain)
    show(domain, libvirt.VIR_DOMAIN_XML_INACTIVE)
    domain.destroy()
    show(domain)
    for flags in (0, LIVE, CONFIG, LIVE | CONFIG, 4):
        set_to(domain, DESCRIPTION, f"off by {flags}", None, None, flags)
        get(domain, DESCRIPTION, None, flags)
    show(domain)
    transient = connection.createXML(XML, 0)
    for flags in (CONFIG, LIVE | CONFIG, LIVE, 0):
        set_to(transient, TITLE, f"transient by {flags}", None, None, flags)
        get(transient, TITLE, None, flags)
    get(transient, 3, None, CONFIG)
    set_to(transient, 3, "x", None, None, CONFIG)
    transient.destroy()
    get(transient, TITLE)
    get(transient, 3)
    get(transient, 3, None, 4)
    set_to(transient, TITLE, "gone")
    reading = libvirt.openReadOnly(uri)
    domain = reading.lookupByName("test")
    set_to(domain, TITLE, "two\nlines", "k", "u", 4)
    get(domain, DESCRIPTION)


main(sys.argv[1])
