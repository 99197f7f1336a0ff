#include "vm_plan.h"

#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "archive/member_reader.h"
#include "base/document.h"
#include "partial.h"
#include "repository/manifest.h"
#include "repository/naming.h"

#define NVRAM_FOLDER	"/var/lib/libvirt/qemu/nvram"	/* libvirt's own choice */
#define TPM_PREFIX	"tpm."

static int format_text(char **out, struct err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int
format_text(char **out, struct err *err, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vasprintf(out, fmt, ap);
	va_end(ap);
	if (r != -1)
		return (0);
	*out = NULL;
	return (err_nomem(err));
}

void
vm_plan_note(struct vm_plan *p, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (p->notes == NULL)
		p->notes = json_array();
	json_array_append_new(p->notes, doc_string(text));
}

/* ---- which machine ---- */

static int
read_xml(struct vm_plan *p, const struct options *o, struct opened *op, struct err *err)
{
	struct archive_reader *ar = archive_set_first(op->set);
	const char *name = "domain.xml";
	uint32_t n = index_member_find(ar->ix, name);

	if (n == UINT32_MAX && (n = index_member_find(ar->ix, "domain-live.xml")) != UINT32_MAX) {
		name = "domain-live.xml";
		vm_plan_note(p, "there is no domain.xml in it: domain-live.xml, of the running machine, is used");
	}
	if (n == UINT32_MAX)
		return (err_set(err, 0, "there is no domain.xml in %s, so the machine cannot be restored as a whole: it was backed up from disk images, without a "
		    "hypervisor; restore its disks with the command disk", o->archive != NULL ? o->archive : o->args[0]));
	if (member_read(ar, n, &p->source, err) == -1)
		return (-1);
	if (domain_desc_parse(&p->was, p->source.ptr, p->source.len, err) == -1)
		return (err_wrap(err, "%s of the point", name));
	return (0);
}

/* An absolute path of a folder that is there, or can be made in one that is. */
static int
absolute_folder(const char *path, char **out, struct err *err)
{
	char *one = strdup(path), *two = strdup(path), *parent = NULL;
	int rc = -1;

	if (one == NULL || two == NULL)
		err_nomem(err);
	else if ((*out = realpath(path, NULL)) != NULL)
		rc = 0;
	else if (errno != ENOENT || (parent = realpath(dirname(one), NULL)) == NULL)
		err_set(err, errno, "the folder %s", path);
	else
		rc = format_text(out, err, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, basename(two));
	free(one);
	free(two);
	free(parent);
	return (rc);
}

int
vm_plan_begin(struct vm_plan *p, const struct options *o, struct opened *op, struct err *err)
{
	char made[UUID_LEN] = "";
	uint8_t id[16];

	if ((o->name != NULL && domain_name_check(o->name, err) == -1) || read_xml(p, o, op, err) == -1 || uuid_random(id, err) == -1)
		return (-1);
	uuid_text(id, made);
	p->renamed = o->name != NULL || p->was.uuid == NULL;
	if ((p->name = strdup(o->name != NULL ? o->name : p->was.name)) == NULL || (p->uuid = strdup(p->renamed ? made : p->was.uuid)) == NULL)
		return (err_nomem(err));
	return (o->directory != NULL ? absolute_folder(o->directory, &p->directory, err) : 0);
}

/* ---- disks ---- */

static bool
is_qcow2(const struct vm_plan *p, const struct options *o, const struct opened *op, const char *target)
{
	const struct domain_disk *was = domain_disk_find(&p->was, target);

	if (o->format != NULL)
		return (strcmp(o->format, "qcow2") == 0);
	for (size_t i = 0; i < op->manifest.ndisks; i++)
		if (strcmp(op->manifest.disks[i].target, target) == 0)
			return (strcmp(op->manifest.disks[i].format, "qcow2") == 0);
	return (was != NULL && strcmp(was->format, "qcow2") == 0);
}

static bool
is_device(const char *path)
{
	struct stat sb;

	return (stat(path, &sb) == 0 && S_ISBLK(sb.st_mode));
}

/* Where the machine's own XML has it. */
static int
original_place(const struct vm_plan *p, const char *target, char **out, struct err *err)
{
	const struct domain_disk *was = domain_disk_find(&p->was, target);

	if (was == NULL)
		return (err_set(err, 0, "disk %s is not in domain.xml (it was attached while the machine ran): say where it goes with --directory", target));
	if ((strcmp(was->type, "file") != 0 && strcmp(was->type, "block") != 0) || was->source == NULL || was->source[0] != '/')
		return (err_set(err, 0, "disk %s was a %s disk (%s), which is not written to: say where it goes with --directory", target, was->type,
		    was->source != NULL ? was->source : "without a source"));
	if (strcmp(was->type, "block") == 0 && !is_device(was->source))
		return (err_set(err, 0, "disk %s was on the block device %s, which is not here: make it, or say where it goes with --directory", target,
		    was->source));
	return (format_text(out, err, "%s", was->source));
}

static int
plan_disk(struct vm_plan *p, const struct options *o, const struct opened *op, uint32_t n, struct err *err)
{
	const struct index_disk *x = index_disk(archive_set_first(op->set)->ix, n);
	struct plan_disk *d = &p->disks[p->ndisks++];

	d->number = n;
	d->target = x->target;
	d->size = x->size;
	if (p->directory != NULL ? format_text(&d->path, err, "%s/%s", p->directory, x->member) == -1 :
	    original_place(p, x->target, &d->path, err) == -1)
		return (-1);
	d->block = is_device(d->path);
	/* A device holds the disk as the guest sees it; --format qcow2 is refused for one. */
	d->format = is_qcow2(p, o, op, x->target) && (!d->block || o->format != NULL) ? TARGET_QCOW2 : TARGET_RAW;
	if (domain_disk_find(&p->was, x->target) == NULL)
		vm_plan_note(p, "disk %s is not in the machine's XML: it was attached while the machine ran; it is restored, but not attached", x->target);
	return (0);
}

static int
plan_disks(struct vm_plan *p, const struct options *o, const struct opened *op, struct err *err)
{
	uint32_t n = index_disks(archive_set_first(op->set)->ix);

	if ((p->disks = calloc(n + 1, sizeof(*p->disks))) == NULL)
		return (err_nomem(err));
	for (uint32_t i = 0; i < n; i++)
		if (plan_disk(p, o, op, i, err) == -1)
			return (-1);
	for (size_t i = 0; i < p->was.ndisks; i++) {
		const struct domain_disk *was = &p->was.disks[i];

		if (domain_disk_left(was) || index_disk_find(archive_set_first(op->set)->ix, was->target) != UINT32_MAX)
			continue;
		/* Two machines that write to one disk would destroy it. */
		if (p->renamed)
			vm_plan_note(p, "disk %s (%s) is not in the point: the new machine does not have it", was->target, was->source);
		else
			vm_plan_note(p, "disk %s (%s) is not in the point: the machine's XML has it as it was", was->target, was->source);
	}
	return (0);
}

/* ---- NVRAM and TPM ---- */

/* The NVRAM's new path: in the directory, or beside the old one under the new name, or where it was. */
static int
nvram_path(const struct vm_plan *p, char **out, struct err *err)
{
	const char *slash = p->was.nvram != NULL && p->was.nvram[0] == '/' ? strrchr(p->was.nvram, '/') : NULL;

	if (p->directory == NULL && !p->renamed && slash != NULL)
		return (format_text(out, err, "%s", p->was.nvram));
	if (p->directory != NULL)
		return (format_text(out, err, "%s/%s_VARS.fd", p->directory, p->name));
	return (format_text(out, err, "%.*s/%s_VARS.fd", slash != NULL ? (int)(slash - p->was.nvram) : (int)strlen(NVRAM_FOLDER),
	    slash != NULL ? p->was.nvram : NVRAM_FOLDER, p->name));
}

/* A relative path with its slashes as %2F.  It must stay below its folder. */
static int
tpm_path(const char *name, char out[INDEX_NAME_LEN], struct err *err)
{
	size_t n = 0;

	for (const char *s = name; *s != '\0'; s++) {
		out[n++] = strncmp(s, "%2F", 3) == 0 ? '/' : *s;
		if (out[n - 1] == '/' && *s == '%')
			s += 2;
	}
	out[n] = '\0';
	for (const char *part = out, *end;; part = end + 1) {
		end = strchrnul(part, '/');
		if (end == part || (end - part == 1 && part[0] == '.') || (end - part == 2 && strncmp(part, "..", 2) == 0) || !utf8_valid(out))
			return (err_set(err, 0, "the file %s%s has no sound name", TPM_PREFIX, name));
		if (*end == '\0')
			return (0);
	}
}

static int
plan_tpm(struct vm_plan *p, bool in_place, struct err *err)
{
	p->tpm_in_place = in_place;
	if (in_place)
		return (format_text(&p->tpm, err, "%s/%s", SWTPM_FOLDER, p->uuid));
	if (p->directory != NULL) {
		vm_plan_note(p, "the TPM's state goes to %s/tpm: libvirt looks for it in %s/%s, owned by swtpm's user", p->directory, SWTPM_FOLDER, p->uuid);
		return (format_text(&p->tpm, err, "%s/tpm", p->directory));
	}
	p->tpm_left = true;
	vm_plan_note(p, "the TPM's state is not restored: that needs --define or --directory");
	return (0);
}

/* One small member: whether it is a file that goes somewhere. */
static int
plan_member(struct vm_plan *p, uint32_t n, const char *name, bool in_place, struct err *err)
{
	struct plan_file *f = &p->files[p->nfiles];
	char relative[INDEX_NAME_LEN];

	if (strcmp(name, "nvram") == 0) {
		p->nfiles++;
		f->member = n;
		return (format_text(&f->path, err, "%s", p->nvram));
	}
	if (strncmp(name, TPM_PREFIX, strlen(TPM_PREFIX)) != 0)
		return (0);
	if (p->tpm == NULL && !p->tpm_left && plan_tpm(p, in_place, err) == -1)
		return (-1);
	if (tpm_path(name + strlen(TPM_PREFIX), relative, err) == -1)
		return (-1);
	if (p->tpm == NULL)
		return (0);
	p->nfiles++;
	f->member = n;
	f->tpm = true;
	return (format_text(&f->path, err, "%s/%s", p->tpm, relative));
}

static int
plan_files(struct vm_plan *p, const struct opened *op, bool in_place, struct err *err)
{
	struct index_reader *ix = archive_set_first(op->set)->ix;
	bool nvram = index_member_find(ix, "nvram") != UINT32_MAX, has_tpm = false;
	struct index_member m;

	if ((p->files = calloc(index_members(ix) + 1, sizeof(*p->files))) == NULL)
		return (err_nomem(err));
	if ((nvram || (p->was.nvram != NULL && (p->directory != NULL || p->renamed))) && nvram_path(p, &p->nvram, err) == -1)
		return (-1);
	if (!nvram && p->was.nvram != NULL)
		vm_plan_note(p, "the point has no NVRAM: the firmware's settings, boot entries among them, begin anew");
	for (uint32_t i = 0; i < index_members(ix); i++) {
		if (index_member(ix, i, &m, err) == -1 || plan_member(p, i, m.name, in_place, err) == -1)
			return (-1);
		has_tpm = has_tpm || strncmp(m.name, TPM_PREFIX, strlen(TPM_PREFIX)) == 0;
	}
	if (p->was.tpm_emulator && !has_tpm)
		vm_plan_note(p, "the point has no TPM state: what the guest sealed with its TPM, such as keys of its disks, cannot be unsealed");
	return (0);
}

/* ---- the XML ---- */

static int
plan_xml(struct vm_plan *p, struct err *err)
{
	struct domain_disk_place *places = calloc(p->ndisks + 1, sizeof(*places));
	struct domain_change c = { .name = p->renamed ? p->name : NULL, .uuid = p->uuid, .nvram = p->nvram, .drop_missing = p->renamed };
	int rc;

	if (places == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < p->ndisks; i++)
		if (domain_disk_find(&p->was, p->disks[i].target) != NULL)
			places[c.nplaces++] = (struct domain_disk_place){ p->disks[i].target, p->disks[i].path,
			    p->disks[i].format == TARGET_QCOW2 ? "qcow2" : "raw", p->disks[i].block };
	c.places = places;
	rc = domain_rewrite(p->source.ptr, p->source.len, &c, &p->xml, err);
	free(places);
	return (rc);
}

int
vm_plan_complete(struct vm_plan *p, const struct options *o, struct opened *op, bool in_place, struct err *err)
{
	char *here;
	int rc;

	if (plan_disks(p, o, op, err) == -1 || plan_files(p, op, in_place, err) == -1)
		return (-1);
	if (p->directory != NULL)
		rc = format_text(&p->xml_path, err, "%s/%s.xml", p->directory, p->name);
	else if ((here = realpath(".", NULL)) == NULL)
		rc = err_set(err, errno, "cannot tell the name of the current folder: change to another, or use --directory");
	else {
		rc = format_text(&p->xml_path, err, "%s/%s.xml", strcmp(here, "/") == 0 ? "" : here, p->name);
		free(here);
	}
	return (rc == -1 ? -1 : plan_xml(p, err));
}

/* ---- whether it can be done ---- */

static const char *
path_at(const struct vm_plan *p, size_t i)
{
	if (i < p->ndisks)
		return (p->disks[i].path);
	return (i < p->ndisks + p->nfiles ? p->files[i - p->ndisks].path : p->xml_path);
}

static int
check_folder(const char *path, struct err *err)
{
	char *copy = strdup(path);
	struct stat sb;
	int rc = 0;

	if (copy == NULL)
		return (err_nomem(err));
	if (stat(dirname(copy), &sb) == -1 || !S_ISDIR(sb.st_mode))
		rc = err_set(err, 0, "there is no folder for %s: make it, or say where all goes with --directory", path);
	free(copy);
	return (rc);
}

int
vm_plan_check(const struct vm_plan *p, bool force, struct err *err)
{
	size_t n = p->ndisks + p->nfiles + 1;

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < i; k++)
			if (strcmp(path_at(p, i), path_at(p, k)) == 0)
				return (err_set(err, 0, "two files would be %s", path_at(p, i)));
		if (i < p->ndisks ? target_check(path_at(p, i), p->disks[i].format, force, err) == -1 : partial_check(path_at(p, i), force, err) == -1)
			return (-1);
		if (p->directory == NULL && !(i >= p->ndisks && i < n - 1 && p->files[i - p->ndisks].tpm) && check_folder(path_at(p, i), err) == -1)
			return (-1);
	}
	return (0);
}

void
vm_plan_free(struct vm_plan *p)
{
	for (size_t i = 0; i < p->ndisks; i++)
		free(p->disks[i].path);
	for (size_t i = 0; i < p->nfiles; i++)
		free(p->files[i].path);
	domain_desc_free(&p->was);
	buf_free(&p->source);
	buf_free(&p->xml);
	json_decref(p->notes);
	free(p->name);
	free(p->uuid);
	free(p->directory);
	free(p->disks);
	free(p->files);
	free(p->nvram);
	free(p->tpm);
	free(p->xml_path);
	*p = (struct vm_plan)VM_PLAN_INIT;
}
