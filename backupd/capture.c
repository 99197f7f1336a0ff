#include "capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu_nbd.h"
#include "state_dir.h"

int
capture_folder(struct capture *c, const char *parent, char **field, struct err *err)
{
	const struct guest *g = c->guest;

	/* QEMU must be able to pass through; only in its own folder can it do more. */
	if (make_folder(parent, 0711, err) == -1)
		return (-1);
	if (asprintf(field, "%s/%s", parent, g->journal->token) == -1) {
		*field = NULL;
		return (err_nomem(err));
	}
	if (journal_save(g->journal, err) == -1)
		return (-1);
	if (mkdir(*field, 0700) == -1)
		return (err_set(err, errno, "cannot make the folder %s", *field));
	if (g->desc.has_dac && chown(*field, g->desc.dac_uid, g->desc.dac_gid) == -1)
		return (err_set(err, errno, "cannot give %s to the guest's QEMU", *field));
	return (0);
}

char *
capture_scratch(const struct guest *g, struct err *err)
{
	char *path = NULL;

	if (g->run->job->scratch != NULL)
		path = strdup(g->run->job->scratch);
	else if (asprintf(&path, "%s/scratch", state_dir()) == -1)
		path = NULL;
	if (path == NULL)
		err_nomem(err);
	return (path);
}

bool
capture_expects(const struct capture *c, size_t i)
{
	const struct domain_disk *d = c->guest->disks[i];
	uint32_t number;

	return (c->chain->set != NULL && c->chain->manifest.checkpoint != NULL && checkpoint_possible(d) &&
	    chain_disk(c->chain, d->target, &number) != NULL);
}

bool
capture_trusts(struct capture *c, size_t i)
{
	const struct domain_disk *d = c->guest->disks[i];
	const struct manifest_disk *then;
	uint32_t number;

	if (!capture_expects(c, i) || (then = chain_disk(c->chain, d->target, &number)) == NULL)
		return (false);
	if (d->source == NULL || then->source == NULL || strcmp(d->source, then->source) != 0) {
		snprintf(c->why_read, sizeof(c->why_read), "disk %s is %s; then it was %s", d->target, d->source != NULL ? d->source : "elsewhere",
		    then->source != NULL ? then->source : "elsewhere");
		return (false);
	}
	if (inherited_tells(&c->chain->inherited, d->target, d->source))
		return (true);
	snprintf(c->why_read, sizeof(c->why_read), "the checkpoint %s is an earlier point's than the latest, and of disk %s that one is not to be had any more",
	    c->chain->manifest.checkpoint, d->target);
	return (false);
}

const char **
capture_targets(const struct capture *c, size_t *n, struct err *err)
{
	const char **targets = calloc(c->guest->ndisks + 1, sizeof(*targets));

	*n = 0;
	if (targets == NULL) {
		err_nomem(err);
		return (NULL);
	}
	for (size_t i = 0; i < c->guest->ndisks; i++)
		if (capture_expects(c, i))
			targets[(*n)++] = c->guest->disks[i]->target;
	return (targets);
}

void
capture_explain(const struct capture *c, size_t i, struct source *s)
{
	if (s != NULL && c->why_read[0] != '\0' && capture_expects(c, i))
		s->why_all = strdup(c->why_read);
}

/* A disk of which a person would say where it is. */
static struct source *
through_server(struct capture *c, size_t i, const char *path, struct err *err)
{
	struct guest *g = c->guest;
	struct journal *j = g->journal;
	const char *since = NULL;
	struct source *s;

	if (c->servers == NULL && (c->servers = calloc(g->ndisks, sizeof(struct qemu_nbd *))) == NULL) {
		err_nomem(err);
		return (NULL);
	}
	if (j->folder == NULL && capture_folder(c, runtime_dir(), &j->folder, err) == -1)
		return (NULL);
	/* A snapshot's base has its bitmaps too, but what they mean while QEMU has the image open, only QEMU knows. */
	c->why_read[0] = '\0';
	if (!g->active && capture_trusts(c, i))
		since = c->chain->manifest.checkpoint;
	if ((c->servers[i] = qemu_nbd_start(g->disks[i], path, since, j->folder, err)) == NULL)
		return (NULL);
	s = source_nbd_open(qemu_nbd_socket(c->servers[i]), "", qemu_nbd_bitmap(c->servers[i]), path != NULL ? path : g->disks[i]->source, err);
	if (since != NULL && qemu_nbd_bitmap(c->servers[i]) == NULL)
		snprintf(c->why_read, sizeof(c->why_read), "%s has no bitmap of the checkpoint %s, or not a sound one", g->disks[i]->source, since);
	capture_explain(c, i, s);
	return (s);
}

struct source *
capture_image(struct capture *c, size_t i, const char *path, struct err *err)
{
	const struct domain_disk *d = c->guest->disks[i];
	bool local = strcmp(d->type, "file") == 0 || strcmp(d->type, "block") == 0;

	if (d->has_encryption) {
		err_set(err, 0, "disk %s is encrypted by QEMU: it can be read only while the guest runs (capture = \"backup\")", d->target);
		return (NULL);
	}
	if (local && strcmp(d->format, "raw") == 0)
		return (source_image_open(path != NULL ? path : d->source, false, err));
	return (through_server(c, i, path, err));
}

void
capture_stop_servers(struct capture *c)
{
	for (size_t i = 0; c->servers != NULL && i < c->guest->ndisks; i++)
		qemu_nbd_stop(c->servers[i]);
	free(c->servers);
	c->servers = NULL;
}
