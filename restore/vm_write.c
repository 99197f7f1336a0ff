#include "vm_write.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/member_reader.h"
#include "base/human.h"
#include "base/io.h"

#define SWTPM_USER	"tss"	/* qemu.conf's swtpm_user, unless somebody changed it */
#define MADE_MAX	1024u

static size_t
file_count(const struct vm_write *w)
{
	return (w->plan->nfiles + 1);
}

/* ---- what is left where, at any moment ---- */

static int
update_left(struct vm_write *w, struct err *err)
{
	struct buf b = BUF_INIT;
	char *old = w->left;
	int rc = 0;

	for (size_t i = 0; i < file_count(w) && rc == 0; i++)
		if (w->files[i].partial.made)
			rc = buf_addf(&b, err, "%s%s", b.len > 0 ? "; " : "", w->files[i].partial.left);
	for (size_t i = 0; i < w->plan->ndisks && rc == 0; i++)
		if (w->disks[i].target != NULL && w->disks[i].target->left != NULL)
			rc = buf_addf(&b, err, "%s%s", b.len > 0 ? "; " : "", w->disks[i].target->left);
	if (rc == -1) {
		buf_free(&b);
		return (-1);
	}
	/* A signal finds the old text or the new one. */
	w->left = b.ptr;
	leave_behind(w->left);
	free(old);
	return (0);
}

/* ---- folders ---- */

static int
make_folder(struct vm_write *w, const char *path, mode_t mode, struct err *err)
{
	char *copy;

	if (mkdir(path, 0700) == -1)
		return (errno == EEXIST ? 0 : err_set(err, errno, "cannot make the folder %s", path));
	if ((copy = strdup(path)) == NULL || w->nmade == MADE_MAX) {
		free(copy);
		rmdir(path);
		return (copy == NULL ? err_nomem(err) : err_set(err, 0, "more than %u folders are needed", MADE_MAX));
	}
	w->made[w->nmade++] = copy;
	/* 0711: QEMU's user must get at what is below, and need not see what else there is. */
	return (chmod(path, mode) == -1 ? err_set(err, errno, "cannot set the mode of the folder %s", path) : 0);
}

/* The user that libvirt starts swtpm as, or NULL where we cannot give files away. */
static const struct passwd *
tpm_owner(const struct vm_plan *p)
{
	/* cppcheck-suppress getpwnamCalled ; no other thread runs meanwhile */
	return (p->tpm_in_place && geteuid() == 0 ? getpwnam(SWTPM_USER) : NULL);
}

static int
make_tpm_folders(struct vm_write *w, const char *path, struct err *err)
{
	const struct passwd *owner = tpm_owner(w->plan);
	size_t above = strlen(w->plan->tpm), before;
	char *copy = strdup(path);
	int rc = 0;

	if (copy == NULL)
		return (err_nomem(err));
	for (char *s = strchr(copy + 1, '/'); s != NULL && rc == 0; s = strchr(s + 1, '/')) {
		*s = '\0';
		before = w->nmade;
		rc = make_folder(w, copy, strlen(copy) <= above ? 0711 : 0700, err);
		if (rc == 0 && w->nmade > before && owner != NULL && strlen(copy) > above && chown(copy, owner->pw_uid, owner->pw_gid) == -1)
			rc = err_set(err, errno, "cannot give the folder %s to %s", copy, SWTPM_USER);
		*s = '/';
	}
	free(copy);
	return (rc);
}

static int
make_folders(struct vm_write *w, struct err *err)
{
	const struct vm_plan *p = w->plan;

	if (p->directory != NULL && make_folder(w, p->directory, 0711, err) == -1)
		return (-1);
	for (size_t i = 0; i < p->nfiles; i++)
		if (p->files[i].tpm && make_tpm_folders(w, p->files[i].path, err) == -1)
			return (-1);
	return (0);
}

/* ---- small files ---- */

static int
write_small(struct vm_write *w, struct small_file *f, const char *path, const struct buf *data, const struct passwd *owner, struct err *err)
{
	if (partial_begin(&f->partial, path, w->force, err) == -1 || (f->fd = partial_create(&f->partial, err)) == -1 || update_left(w, err) == -1)
		return (-1);
	if (io_pwrite(f->fd, data->ptr, data->len, 0) == -1 || fsync(f->fd) == -1)
		return (err_set(err, errno, "cannot write %s", f->partial.temporary));
	if (owner != NULL && fchown(f->fd, owner->pw_uid, owner->pw_gid) == -1)
		return (err_set(err, errno, "cannot give %s to %s", path, SWTPM_USER));
	return (0);
}

static int
write_files(struct vm_write *w, struct err *err)
{
	struct archive_reader *ar = archive_set_first(w->op->set);
	const struct vm_plan *p = w->plan;
	struct buf data = BUF_INIT;
	int rc = 0;

	for (size_t i = 0; i < p->nfiles && rc == 0; i++) {
		buf_reset(&data);
		rc = member_read(ar, p->files[i].member, &data, err);
		if (rc == 0)
			rc = write_small(w, &w->files[i], p->files[i].path, &data, p->files[i].tpm ? tpm_owner(p) : NULL, err);
	}
	buf_free(&data);
	return (rc == -1 ? -1 : write_small(w, &w->files[p->nfiles], p->xml_path, &p->xml, NULL, err));
}

/* ---- disks ---- */

static int
write_disk(struct vm_write *w, size_t n, struct err *err)
{
	struct restore_disk *r = &w->disks[n];
	struct plan_disk *d = &w->plan->disks[n];
	char label[INDEX_NAME_LEN + 64];

	r->progress = w->progress;
	if (restore_disk_open(r, w->op, d->number, d->path, d->format, w->force, err) == -1 || update_left(w, err) == -1)
		return (-1);
	if (w->plan->ndisks > 1)
		snprintf(label, sizeof(label), "%s (%zu of %zu)", d->target, n + 1, w->plan->ndisks);
	else
		snprintf(label, sizeof(label), "%s", d->target);
	if (restore_disk_fill(r, label, err) == -1 || target_flush(r->target, err) == -1)
		return (-1);
	d->data = r->bytes;
	return (0);
}

/* ---- names ---- */

/* The XML last: where it is, all is. */
static int
name_all(struct vm_write *w, struct err *err)
{
	for (size_t i = 0; i < w->plan->ndisks; i++) {
		if (target_commit(w->disks[i].target, err) == -1)
			return (-1);
		w->named[i] = true;
	}
	for (size_t i = 0; i < file_count(w); i++) {
		if (partial_publish(&w->files[i].partial, w->files[i].fd, err) == -1)
			return (-1);
		w->files[i].named = true;
	}
	return (0);
}

int
vm_write(struct vm_write *w, struct err *err)
{
	w->disks = calloc(w->plan->ndisks + 1, sizeof(*w->disks));
	w->named = calloc(w->plan->ndisks + 1, sizeof(*w->named));
	w->files = calloc(file_count(w), sizeof(*w->files));
	w->made = calloc(MADE_MAX, sizeof(*w->made));
	if (w->disks == NULL || w->named == NULL || w->files == NULL || w->made == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < file_count(w); i++)
		w->files[i].fd = -1;
	if (make_folders(w, err) == -1 || write_files(w, err) == -1)
		return (-1);
	for (size_t i = 0; i < w->plan->ndisks; i++)
		if (write_disk(w, i, err) == -1)
			return (-1);
	if (interrupted)
		return (err_plain(err, EINTR, "stopped: no file was kept"));
	if (name_all(w, err) == -1)
		return (-1);
	w->complete = true;
	return (0);
}

/* ---- the end ---- */

static void
say_left(const char *path, const char *what)
{
	struct err e = ERR_INIT;

	err_set(&e, 0, "%s %s", path, what);
	fprintf(stderr, "virt-restore: left: %s\n", human_safe(e.text));
}

/* Of an attempt that failed.  A device keeps what was written; a file that has its name is whole. */
static void
report_left(const struct vm_write *w)
{
	for (size_t i = 0; i < w->plan->ndisks; i++) {
		if (w->named[i])
			say_left(w->plan->disks[i].path, "is restored");
		else if (w->disks[i].target != NULL && w->disks[i].target->keeps)
			say_left(w->plan->disks[i].path, w->disks[i].target->flushed ? "holds the restored disk" : "holds part of the disk");
	}
	for (size_t i = 0; i < file_count(w); i++)
		if (w->files[i].named)
			say_left(w->files[i].partial.path, "is restored");
}

void
vm_write_end(struct vm_write *w)
{
	bool begun = w->disks != NULL && w->named != NULL && w->files != NULL && w->made != NULL;

	leave_behind(NULL);
	if (begun && !w->complete)
		report_left(w);
	for (size_t i = 0; begun && i < w->plan->ndisks; i++)
		restore_disk_close(&w->disks[i]);
	for (size_t i = 0; begun && i < file_count(w); i++) {
		io_close(&w->files[i].fd);
		partial_end(&w->files[i].partial);
	}
	while (begun && w->nmade > 0) {
		if (!w->complete)
			rmdir(w->made[w->nmade - 1]);
		free(w->made[--w->nmade]);
	}
	free(w->disks);
	free(w->named);
	free(w->files);
	free(w->made);
	free(w->left);
}
