#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/index.h"
#include "base/io.h"

#define AGENT_SECONDS	5		/* for a question that changes nothing */
#define LIBVIRT_SECONDS	60		/* libvirtd may be starting again */
#define CALL_SECONDS	120		/* for one call into QEMU */
#define SWTPM_FOLDER	"/var/lib/libvirt/swtpm"
#define TPM_DEPTH	3

int
guest_describe(virDomainPtr dom, unsigned int flags, struct domain_desc *d, char **xml, struct err *err)
{
	char *text;
	int rc;

	hypervisor_deadline(CALL_SECONDS, "describe a guest");
	text = virDomainGetXMLDesc(dom, flags);
	hypervisor_met();
	if (text == NULL)
		return (hypervisor_failed(err, "cannot get the XML of the domain"));
	rc = domain_desc_parse(d, text, strlen(text), err);
	if (rc == 0 && xml != NULL)
		*xml = text;
	else
		free(text);
	return (rc);
}

static bool
excluded(const struct guest *g, const char *target)
{
	const struct conf_strings *patterns = &g->run->job->exclude_disks;
	char full[512];

	snprintf(full, sizeof(full), "%s/%s", g->name, target);
	for (size_t i = 0; i < patterns->n; i++)
		if (fnmatch(patterns->v[i], strchr(patterns->v[i], '/') != NULL ? full : target, 0) == 0)
			return (true);
	return (false);
}

/* Why a disk is not backed up, or NULL when it is. */
static const char *
why_skipped(const struct guest *g, const struct domain_disk *d)
{
	if (strcmp(d->device, "cdrom") == 0)
		return ("a CD-ROM");
	if (strcmp(d->device, "floppy") == 0)
		return ("a floppy");
	if (excluded(g, d->target))
		return ("excluded");
	if (d->source == NULL)
		return ("empty");
	if (d->readonly)
		return ("read-only");
	if (d->transient)
		return ("transient");
	return (NULL);
}

static int
choose_disks(struct guest *g, struct err *err)
{
	struct buf skipped = BUF_INIT;
	const struct domain_disk *d;
	const char *why;
	int rc = 0;

	if ((g->disks = calloc(g->desc.ndisks + 1, sizeof(*g->disks))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < g->desc.ndisks && rc == 0; i++) {
		d = &g->desc.disks[i];
		if ((why = why_skipped(g, d)) == NULL)
			g->disks[g->ndisks++] = d;
		else
			rc = buf_addf(&skipped, err, "%s%s (%s)", skipped.len == 0 ? "not backed up: " : ", ", d->target, why);
	}
	g->skipped = skipped.ptr;
	if (rc == 0 && g->ndisks == 0)
		rc = err_set(err, 0, "it has no disk to back up%s%s", g->skipped != NULL ? ": " : "", g->skipped != NULL ? g->skipped : "");
	return (rc);
}

static int
look(struct guest *g, virDomainPtr dom, struct err *err)
{
	struct domain_desc inactive = DOMAIN_DESC_INIT;
	int state, active = virDomainIsActive(dom), persistent = virDomainIsPersistent(dom);

	if (active == -1 || persistent == -1 || virDomainGetState(dom, &state, NULL, 0) == -1)
		return (hypervisor_failed(err, "cannot tell whether the guest runs"));
	g->active = active == 1;
	g->persistent = persistent == 1;
	g->paused = g->active && state == VIR_DOMAIN_PAUSED;
	if (guest_describe(dom, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, &inactive, &g->inactive_xml, err) == -1)
		return (-1);
	if (!g->active)
		g->desc = inactive;
	else {
		domain_desc_free(&inactive);
		if (guest_describe(dom, VIR_DOMAIN_XML_SECURE, &g->desc, &g->live_xml, err) == -1)
			return (-1);
	}
	if (g->desc.name == NULL || (g->name = strdup(g->desc.name)) == NULL)
		return (err_nomem(err));
	return (choose_disks(g, err));
}

struct guest *
guest_open(const struct backup_run *run, struct hypervisor *hv, const char *uuid, struct err *err)
{
	struct guest *g = calloc(1, sizeof(*g));
	virDomainPtr dom = NULL;
	int rc = -1;

	if (g == NULL || (g->uuid = strdup(uuid)) == NULL) {
		free(g);
		err_nomem(err);
		return (NULL);
	}
	g->run = run;
	g->hv = hv;
	if ((dom = guest_domain(g, err)) != NULL) {
		rc = look(g, dom, err);
		virDomainFree(dom);
	}
	if (rc == 0)
		return (g);
	guest_close(g);
	return (NULL);
}

void
guest_close(struct guest *g)
{
	if (g == NULL)
		return;
	domain_desc_free(&g->desc);
	free(g->disks);
	free(g->skipped);
	free(g->filesystems);
	free(g->live_xml);
	free(g->inactive_xml);
	free(g->name);
	free(g->uuid);
	free(g);
}

virDomainPtr
guest_domain(struct guest *g, struct err *err)
{
	return (hypervisor_domain(g->hv, g->uuid, LIBVIRT_SECONDS, err));
}

int
guest_is_active(struct guest *g, bool *active, struct err *err)
{
	virDomainPtr dom = guest_domain(g, err);
	int r;

	if (dom == NULL)
		return (-1);
	r = virDomainIsActive(dom);
	if (r == -1)
		hypervisor_failed(err, "cannot tell whether the guest runs");
	virDomainFree(dom);
	*active = r == 1;
	return (r == -1 ? -1 : 0);
}

/* The whole of a small file.  Returns 1, 0 when there is none, -1 on error. */
static int
read_file(const char *path, struct buf *out, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc = -1;
	struct stat sb;

	if (fd == -1)
		return (errno == ENOENT ? 0 : err_set(err, errno, "cannot open %s", path));
	if (fstat(fd, &sb) == -1 || !S_ISREG(sb.st_mode) || (uint64_t)sb.st_size > INDEX_MEMBER_MAX) {
		err_set(err, 0, "%s is no regular file, or too large to be what it should be", path);
		goto out;
	}
	if (buf_reserve(out, (size_t)sb.st_size, err) == -1)
		goto out;
	if (io_pread(fd, out->ptr, (size_t)sb.st_size, 0) != sb.st_size) {
		err_set(err, errno, "cannot read %s", path);
		goto out;
	}
	out->len = (size_t)sb.st_size;
	rc = 1;
out:
	close(fd);
	return (rc);
}

static int
store_file(struct point_store *ps, const char *name, const char *path, struct err *err)
{
	struct buf b = BUF_INIT;
	int r = read_file(path, &b, err);

	if (r == 1)
		r = point_store_member(ps, name, b.ptr != NULL ? b.ptr : "", b.len, err) == -1 ? -1 : 1;
	buf_free(&b);
	return (r);
}

/* All files of the TPM's state; a member's name has %2F for the slashes of the path below the folder. */
static int
store_tpm(struct point_store *ps, const char *folder, const char *prefix, int depth, struct err *err)
{
	char path[4096], name[INDEX_NAME_LEN];
	struct dirent *e;
	struct stat sb;
	DIR *d = opendir(folder);
	int rc = 0;

	if (d == NULL)
		return (errno == ENOENT ? 0 : err_set(err, errno, "cannot read the folder %s", folder));
	/* cppcheck-suppress readdirCalled ; glibc's is safe for threads with a DIR each */
	while (rc != -1 && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, e->d_name) >= sizeof(path) ||
		    (size_t)snprintf(name, sizeof(name), "%s%s", prefix, e->d_name) >= sizeof(name) - 3)
			rc = err_set(err, ENAMETOOLONG, "%s/%s of the TPM's state", folder, e->d_name);
		else if (lstat(path, &sb) == -1)
			/* swtpm renames what it has written anew. */
			rc = errno == ENOENT ? 0 : err_set(err, errno, "cannot look at %s", path);
		else if (S_ISREG(sb.st_mode))
			rc = store_file(ps, name, path, err);
		else if (S_ISDIR(sb.st_mode) && depth > 1) {
			memcpy(name + strlen(name), "%2F", sizeof("%2F"));
			rc = store_tpm(ps, path, name, depth - 1, err);
		}
	}
	closedir(d);
	return (rc == -1 ? -1 : 0);
}

static int
store_text(struct point_store *ps, const char *name, const char *text, struct err *err)
{
	return (text == NULL ? 0 : point_store_member(ps, name, text, strlen(text), err));
}

int
guest_store_members(struct guest *g, struct point_store *ps, struct err *err)
{
	char folder[128];
	int r;

	if (store_text(ps, "domain.xml", g->inactive_xml, err) == -1 || store_text(ps, "domain-live.xml", g->live_xml, err) == -1 ||
	    store_text(ps, "guest-filesystems.json", g->filesystems, err) == -1)
		return (-1);
	if (g->desc.nvram != NULL) {
		if ((r = store_file(ps, "nvram", g->desc.nvram, err)) == -1)
			return (-1);
		if (r == 0)
			point_store_note(ps, "there is no NVRAM file %s yet: the guest was never started", g->desc.nvram);
	}
	if (g->desc.tpm_emulator) {
		snprintf(folder, sizeof(folder), SWTPM_FOLDER "/%s", g->uuid);
		if (store_tpm(ps, folder, "tpm.", TPM_DEPTH, err) == -1)
			return (-1);
	}
	return (0);
}
