/* Makes and deletes a checkpoint of a guest of libvirt's qemu driver for each line of its input, and prints in how many
 * seconds it was made.
 *
 *   libvirt URI DOMAIN
 *
 * The guest of this XML is started before the first line, paused, and ends with this program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *must(void *found, const char *what)
{
    if (!found) {
        fprintf(stderr, "%s: %s\n", what, virGetLastErrorMessage());
        exit(1);
    }
    return found;
}

int main(int count, char **words)
{
    if (count != 3)
        return 2;
    virConnectPtr connection = must(virConnectOpen(words[1]), "open");
    unsigned int flags = VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_AUTODESTROY;
    virDomainPtr domain = must(virDomainCreateXML(connection, words[2], flags), "start");
    puts("0");
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof(line), stdin)) {
        const char *xml = "<domaincheckpoint><name>made</name></domaincheckpoint>";
        double begun = now();
        virDomainCheckpointPtr made = must(virDomainCheckpointCreateXML(domain, xml, 0), "make");
        printf("%.9f\n", now() - begun);
        fflush(stdout);
        must(virDomainCheckpointDelete(made, 0) == 0 ? made : NULL, "delete");
        virDomainCheckpointFree(made);
    }
    virDomainDestroy(domain);
    virDomainFree(domain);
    virConnectClose(connection);
    return 0;
}
