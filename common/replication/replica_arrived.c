/* What there is of an archive at the far end: how much of one that arrived in part is right, and whether what arrived is what was sent. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "replication/replica_list.h"
#include "replication/replica_send_private.h"

#define READ_WHOLE	((uint64_t)256 << 10)	/* bytes */
#define SAMPLE		((size_t)256 << 10)	/* bytes that are read back at a time */

/* Is what arrived what was sent? */

/* All of it, from storage that is as near as the reader. */
static int
add_file(struct replica_send *s, struct store *st, const char *path, uint64_t size, struct sha256 *sha, struct err *err)
{
	struct store_file *f = store_file_open(st, path, err);
	size_t n;
	int rc = f != NULL ? 0 : -1;

	for (uint64_t at = 0; at < size && rc == 0; at += n) {
		n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
		if (replica_stopped(s->ln, err) == -1 || store_file_read(f, s->buf, n, at, err) == -1 || sha256_add(sha, s->buf, n, err) == -1)
			rc = -1;
	}
	store_file_close(f);
	return (rc);
}

static int
is_same_piece(struct replica_send *s, struct store_file *in, struct store_file *arrived, uint64_t at, size_t n, struct err *err)
{
	if (replica_read_source(s, in, n, at, err) == -1 || store_file_read(arrived, s->buf + SAMPLE, n, at, err) == -1)
		return (-1);
	return (memcmp(s->buf, s->buf + SAMPLE, n) == 0 ? 1 : 0);
}

/* Random pieces, and always the last one.  1: they are what the source has; 0; -1. */
static int
sample_is_same(struct replica_send *s, struct store_file *in, const char *path, uint64_t size, struct err *err)
{
	uint64_t pieces = (size + SAMPLE - 1) / SAMPLE, want = pieces * s->ln->read_back / 100, random;
	struct store_file *arrived = store_file_open(s->ln->to->st, path, err);
	int rc = arrived != NULL ? 1 : -1;

	for (uint64_t i = 0; i <= want && rc == 1 && pieces > 0; i++) {
		uint64_t piece = pieces - 1;

		if (i > 0) {
			if (io_random(&random, sizeof(random), err) == -1) {
				rc = -1;
				break;
			}
			piece = random % pieces;
		}
		if (replica_stopped(s->ln, err) == -1)
			rc = -1;
		else
			rc = is_same_piece(s, in, arrived, piece * SAMPLE, size - piece * SAMPLE < SAMPLE ? (size_t)(size - piece * SAMPLE) : SAMPLE, err);
	}
	store_file_close(arrived);
	return (rc);
}

int
replica_has_arrived(struct replica_send *s, struct store_file *in, const char *path, uint64_t size, const char *hex, struct err *err)
{
	struct store *st = s->ln->to->st;
	char got[SHA256_HEX];
	struct sha256 *sha;
	int rc;

	/* A small one is sooner here than a command has run there. */
	if (st->remote && size > READ_WHOLE) {
		if (store_sha256(st, path, size, got, err) == 0)
			return (strcmp(got, hex) == 0 ? 1 : 0);
		if (err->code != ENOTSUP || in != NULL)
			return (err->code != ENOTSUP ? -1 : sample_is_same(s, in, path, size, err));
	}
	if ((sha = sha256_new(err)) == NULL)
		return (-1);
	rc = add_file(s, st, path, size, sha, err) == 0 && sha256_end(sha, got, err) == 0 ? 0 : -1;
	sha256_free(sha);
	return (rc == -1 ? -1 : strcmp(got, hex) == 0 ? 1 : 0);
}

/* An archive that has arrived in part: ".replicas/<archive id>.<token of its writer's lock>.part". */

static int
claim_part(struct replica_send *s, struct err *err)
{
	const struct buf *parts = s->ln->parts;
	char from[PATH_LEN], token[LOCK_TOKEN_LEN];
	const char *name;
	int held;

	snprintf(s->part, sizeof(s->part), "%s/%.40s.%s.part", REPLICAS_DIR, s->m.archive.id, lock_token(s->ln->lk));
	for (size_t at = 0; parts != NULL && at < parts->len; at += strlen(name) + 1) {
		name = parts->ptr + at;
		if (strncmp(name, s->m.archive.id, UUID_LEN - 1) != 0 || sscanf(name + UUID_LEN - 1, ".%16[0-9a-f].part", token) != 1)
			continue;
		if ((held = lock_is_held(s->ln->lk, token, err)) == -1)
			return (-1);
		snprintf(from, sizeof(from), "%s/%.100s", REPLICAS_DIR, name);
		if (!held && store_rename(s->ln->to->st, from, s->part, err) == 0)
			return (1);
	}
	return (0);
}

/* How much of the part from ${*size} up to ${end} is as it is here, by looking: the last bytes of a part may have come before others. */
static int
compare_tail(struct replica_send *s, struct store_file *in, uint64_t end, struct sha256 *sha, uint64_t *size, struct err *err)
{
	struct store_file *part = store_file_open(s->ln->to->st, s->part, err);
	uint8_t *there = malloc(CHUNK);
	bool differs = false;
	size_t n, ok;
	int rc = -1;

	if (there == NULL)
		err_nomem(err);
	if (part == NULL || there == NULL)
		goto out;
	while (*size < end && !differs) {
		n = end - *size < CHUNK ? (size_t)(end - *size) : CHUNK;
		if (replica_stopped(s->ln, err) == -1 || replica_read_source(s, in, n, *size, err) == -1 || store_file_read(part, there, n, *size, err) == -1)
			goto out;
		for (ok = 0; ok < n && s->buf[ok] == there[ok]; ok++)
			;
		if (sha256_add(sha, s->buf, ok, err) == -1)
			goto out;
		*size += ok;
		differs = ok < n;
	}
	rc = 0;
out:
	free(there);
	store_file_close(part);
	return (rc);
}

/* How much of what has arrived is right, and its digest so far: all of it but for its end, or nothing. */
static int
look_at_part(struct replica_send *s, struct store_file *in, struct sha256 *sha, uint64_t *size, struct err *err)
{
	struct store *st = s->ln->to->st;
	struct sha256 *upto = NULL;
	struct store_stat sb;
	char hex[SHA256_HEX];
	uint64_t settled;
	int rc = -1, same = 1;

	*size = 0;
	if (store_stat(st, s->part, &sb, err) == -1)
		return (-1);
	if (sb.is_dir || sb.size > in->size || sb.size == 0)
		return (0);
	/* Near storage is read: what it says decides the digest of the whole, against which it is held in the end. */
	if (!st->remote) {
		*size = sb.size;
		return (add_file(s, st, s->part, sb.size, sha, err));
	}
	settled = sb.size > st->unsettled ? sb.size - st->unsettled : 0;
	if ((upto = sha256_new(err)) == NULL)
		return (-1);
	for (uint64_t at = 0; at < settled; ) {
		size_t n = settled - at < CHUNK ? (size_t)(settled - at) : CHUNK;

		if (replica_stopped(s->ln, err) == -1 || replica_read_source(s, in, n, at, err) == -1 || sha256_add(sha, s->buf, n, err) == -1 ||
		    sha256_add(upto, s->buf, n, err) == -1)
			goto out;
		at += n;
	}
	if (settled > 0 && (sha256_end(upto, hex, err) == -1 || (same = replica_has_arrived(s, in, s->part, settled, hex, err)) == -1))
		goto out;
	*size = same ? settled : 0;
	rc = same ? compare_tail(s, in, sb.size, sha, size, err) : 0;
out:
	sha256_free(upto);
	return (rc);
}

struct store_file *
replica_open_part(struct replica_send *s, struct store_file *in, struct sha256 **sha, struct err *err)
{
	struct store *st = s->ln->to->st;
	uint64_t size = 0;
	int claimed;

	if (store_mkdir(st, REPLICAS_DIR, err) == -1 && err->code != EEXIST)
		return (NULL);
	if ((claimed = claim_part(s, err)) == -1)
		return (NULL);
	if (claimed == 0)
		return (store_create(st, s->part, err));
	if (look_at_part(s, in, *sha, &size, err) == -1)
		return (NULL);
	if (size == 0) {
		sha256_free(*sha);
		if ((*sha = sha256_new(err)) == NULL)
			return (NULL);
	}
	s->resumed = size;
	if (s->ln->tick != NULL)
		s->ln->tick(s->ln->arg, size);
	return (store_reopen(st, s->part, size, err));
}

int
replica_drop_part(struct replica_send *s, struct err *err)
{
	int rc = store_unlink(s->ln->to->st, s->part, err);

	s->part[0] = '\0';
	return (rc);
}
