/* Does one kind of work on libvirt's test driver, and prints how often it was done and in how many seconds.
 *
 *   libvirt WORK COUNT SECONDS
 *
 * Making what the work needs is not timed. The work ends after COUNT pieces, or after SECONDS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

static double begun;
static double limit;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int goes_on(long done, long count)
{
    return done < count && now() - begun < limit;
}

static void *must(void *found, const char *what)
{
    if (!found) {
        virErrorPtr error = virGetLastError();
        fprintf(stderr, "%s: %s\n", what, error && error->message ? error->message : "?");
        exit(1);
    }
    return found;
}

static void quiet(void *data, virErrorPtr error)
{
    (void)data;
    (void)error;
}

/* With the memory of the domain, in KiB. */
#define DOMAIN_XML \
    "<domain type='test'><name>bench</name><uuid>bbbbbbbb-0000-4000-8000-000000000001</uuid>" \
    "<memory>%ld</memory><os><type>hvm</type></os><devices>" \
    "<disk type='file' device='disk'><source file='/i/1'/><target dev='vda'/></disk>" \
    "</devices></domain>"

#define MEMORY 8192L

static void snapshot(virDomainPtr domain, long number)
{
    char xml[200];
    snprintf(xml, sizeof(xml), "<domainsnapshot><name>n%ld</name></domainsnapshot>", number);
    virDomainSnapshotFree(must(virDomainSnapshotCreateXML(domain, xml, 0), "snapshot"));
}

static void checkpoint(virDomainPtr domain, long number)
{
    char xml[200];
    snprintf(xml, sizeof(xml), "<domaincheckpoint><name>n%ld</name></domaincheckpoint>", number);
    virDomainCheckpointFree(must(virDomainCheckpointCreateXML(domain, xml, 0), "checkpoint"));
}

/* Below `parent`, or as a root where that is negative, with a domain of so much memory embedded. */
static void redefine_with(virDomainPtr domain, long number, long parent, long memory)
{
    char xml[1200], below[80] = "";
    if (parent >= 0)
        snprintf(below, sizeof(below), "<parent><name>n%ld</name></parent>", parent);
    snprintf(xml, sizeof(xml),
             "<domainsnapshot><name>n%ld</name><state>running</state>%s"
             "<creationTime>%ld</creationTime>" DOMAIN_XML "</domainsnapshot>",
             number, below, 1200000000 + number, memory);
    virDomainSnapshotFree(must(
        virDomainSnapshotCreateXML(domain, xml, VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE), "redefine"));
}

static void redefine(virDomainPtr domain, long number, long parent)
{
    redefine_with(domain, number, parent, MEMORY);
}

static void redefine_wide(virDomainPtr domain, long count)
{
    for (long number = 0; number < count; number++)
        redefine(domain, number, number ? 0 : -1);
}

static void list(virDomainPtr domain, unsigned flags)
{
    virDomainSnapshotPtr *found = NULL;
    int count = virDomainListAllSnapshots(domain, &found, flags);
    for (int index = 0; index < count; index++)
        virDomainSnapshotFree(found[index]);
    free(found);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const char *work = argv[1];
    long count = atol(argv[2]);
    limit = atof(argv[3]);
    virSetErrorFunc(NULL, quiet);
    virConnectPtr connection = must(virConnectOpen("test:///default"), "open");
    char xml[600];
    snprintf(xml, sizeof(xml), DOMAIN_XML, MEMORY);
    virDomainPtr domain = must(virDomainDefineXML(connection, xml), "define");
    if (virDomainCreate(domain) < 0)
        must(NULL, "start");
    long done = 0;

    if (!strcmp(work, "checkpoint-create")) {
        begun = now();
        for (; goes_on(done, count); done++)
            checkpoint(domain, done);
    } else if (!strcmp(work, "snapshot-create")) {
        begun = now();
        for (; goes_on(done, count); done++)
            snapshot(domain, done);
    } else if (!strcmp(work, "redefine-wide")) {
        begun = now();
        for (; goes_on(done, count); done++)
            redefine(domain, done, done ? 0 : -1);
    } else if (!strcmp(work, "redefine-other")) {
        begun = now();
        for (; goes_on(done, count); done++)
            redefine_with(domain, done, done ? 0 : -1, MEMORY + done);
    } else if (!strcmp(work, "redefine-chain")) {
        begun = now();
        for (; goes_on(done, count); done++)
            redefine(domain, done, done - 1);
    } else if (!strcmp(work, "delete-oldest")) {
        redefine_wide(domain, count + 1);
        begun = now();
        for (; goes_on(done, count); done++) {
            char name[40];
            snprintf(name, sizeof(name), "n%ld", done + 1);
            virDomainSnapshotPtr found = must(virDomainSnapshotLookupByName(domain, name, 0), name);
            if (virDomainSnapshotDelete(found, 0) < 0)
                must(NULL, "delete");
            virDomainSnapshotFree(found);
        }
    } else if (!strcmp(work, "list") || !strcmp(work, "list-topological")) {
        redefine_wide(domain, count);
        unsigned flags = strcmp(work, "list") ? VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL : 0;
        begun = now();
        for (; now() - begun < limit; done++)
            list(domain, flags);
    } else if (!strcmp(work, "count-leaves")) {
        redefine_wide(domain, count);
        begun = now();
        for (; now() - begun < limit; done++)
            virDomainSnapshotNum(domain, VIR_DOMAIN_SNAPSHOT_LIST_LEAVES);
    } else if (!strcmp(work, "checkpoint-xml")) {
        checkpoint(domain, 0);
        virDomainCheckpointPtr found = must(virDomainCheckpointLookupByName(domain, "n0", 0), "n0");
        begun = now();
        for (; now() - begun < limit; done++)
            free(virDomainCheckpointGetXMLDesc(found, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN));
    } else if (!strcmp(work, "snapshot-xml")) {
        snapshot(domain, 0);
        virDomainSnapshotPtr found = must(virDomainSnapshotLookupByName(domain, "n0", 0), "n0");
        begun = now();
        for (; now() - begun < limit; done++)
            free(virDomainSnapshotGetXMLDesc(found, 0));
    } else {
        return 2;
    }
    printf("%ld %.9f\n", done, now() - begun);
    return 0;
}
