#include "repository/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/member_reader.h"
#include "base/digest.h"

#define SUMS_NAME	"SHA256SUMS"
#define SUMS_MAX	((size_t)64 << 10)
#define SUMS_LINE	67u		/* bytes of the shortest line */
#define SUMS_LINES	(SUMS_MAX / SUMS_LINE)
#define READ_CHUNK	((size_t)4 << 20)

struct sums {
	struct repo			*r;
	const struct point		*p;
	const struct manifest		*m;
	bool				 archive;
	const struct verify_ops		*ops;
	void				*arg;
};

/* Returns 1 when the caller ended it. */
static int
file_sha256(const struct sums *s, struct store_file *f, char hex[SHA256_HEX], struct err *err)
{
	struct sha256 *sha = sha256_new(err);
	uint8_t *buf = malloc(READ_CHUNK);
	size_t n;
	int rc = -1;

	if (sha == NULL || buf == NULL) {
		err_nomem(err);
		goto out;
	}
	for (uint64_t at = 0; at < f->size; at += n) {
		n = f->size - at < READ_CHUNK ? (size_t)(f->size - at) : READ_CHUNK;
		if (store_file_read(f, buf, n, at, err) == -1 || sha256_add(sha, buf, n, err) == -1)
			goto out;
		if (s->ops->progress(s->arg, at + n, err) == -1) {
			rc = 1;
			goto out;
		}
	}
	rc = sha256_end(sha, hex, err);
out:
	free(buf);
	sha256_free(sha);
	return (rc);
}

/* The manifest of a point that was pruned has another name, and the same bytes. */
static struct store_file *
open_file(const struct sums *s, const char *name, struct err *err)
{
	struct store_file *f = repo_file(s->r, s->p, name, err);

	if (f == NULL && err->code == ENOENT && strcmp(name, MANIFEST_NAME) == 0)
		f = repo_file(s->r, s->p, PRUNED_NAME, err);
	return (f);
}

/* A point that was consolidated since its manifest was read has other files than that says, and rightly so: its blocks are checked all the same. */
static bool
was_consolidated(const struct sums *s)
{
	struct manifest now = MANIFEST_INIT;
	bool changed = repo_manifest(s->r, s->p, &now, &(struct err)ERR_INIT) == 0 && strcmp(now.archive.id, s->m->archive.id) != 0;

	manifest_free(&now);
	return (changed);
}

static void
damaged(const struct sums *s, const char *name, const struct err *why)
{
	if (!was_consolidated(s))
		s->ops->damage(s->arg, name, why);
}

static int
check_sum(const struct sums *s, const char *name, const char *want, struct err *err)
{
	struct err why = ERR_INIT;
	struct store_file *f;
	char hex[SHA256_HEX];
	int rc;

	if (!s->archive && strcmp(name, s->m->archive.file) == 0)
		return (0);
	if ((f = open_file(s, name, &why)) == NULL) {
		damaged(s, name, &why);
		return (0);
	}
	s->ops->begin(s->arg, name, f->size);
	if ((rc = file_sha256(s, f, hex, &why)) == 0 && strcmp(hex, want) != 0)
		rc = err_set(&why, 0, "%s/%s/%s: its SHA-256 is not the one in " SUMS_NAME, s->p->folder, s->p->name, name);
	store_file_close(f);
	if (rc == 1) {
		*err = why;
		return (-1);
	}
	if (rc == -1)
		damaged(s, name, &why);
	return (0);
}

/* "<64 digits>  <name>": returns the name, or NULL. */
static char *
parse_sum(char *line)
{
	if (strlen(line) < SUMS_LINE || strspn(line, "0123456789abcdef") != 64 || line[64] != ' ' || (line[65] != ' ' && line[65] != '*') ||
	    strchr(line + 66, '/') != NULL)
		return (NULL);
	line[64] = '\0';
	return (line + 66);
}

static void
damage(const struct sums *s, const char *text)
{
	struct err why = ERR_INIT;

	err_set(&why, 0, "%s", text);
	damaged(s, SUMS_NAME, &why);
}

static bool
is_among(const char *name, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return (true);
	return (false);
}

int
verify_sums(struct repo *r, const struct point *p, const struct manifest *m, bool archive, const struct verify_ops *ops, void *arg,
    struct err *err)
{
	const struct sums s = { r, p, m, archive, ops, arg };
	const char *must[] = { MANIFEST_NAME, INDEX_MEMBER, m->archive.file };
	const char *names[SUMS_LINES];
	char *line, *save = NULL, *name;
	struct err why = ERR_INIT;
	struct buf sums = BUF_INIT;
	bool twice = false;
	size_t n = 0;
	int rc = -1;

	if (repo_read_small(r, p, SUMS_NAME, SUMS_MAX, &sums, &why) == -1) {
		damaged(&s, SUMS_NAME, &why);
		rc = 0;
		goto out;
	}
	for (line = strtok_r(sums.ptr, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		if ((name = parse_sum(line)) == NULL) {
			damage(&s, SUMS_NAME " has a line that is none of sha256sum's");
			continue;
		}
		/* Each file is read once, however often it is named. */
		if (is_among(name, names, n) || n == SUMS_LINES) {
			if (!twice)
				damage(&s, SUMS_NAME " names a file twice");
			twice = true;
			continue;
		}
		names[n++] = name;
		if (check_sum(&s, name, line, err) == -1)
			goto out;
	}
	for (size_t i = 0; i < 3; i++)
		if (!is_among(must[i], names, n))
			damage(&s, SUMS_NAME " does not name all files of the point");
	rc = 0;
out:
	buf_free(&sums);
	return (rc);
}

int
verify_members(struct archive_reader *ar, const struct verify_ops *ops, void *arg, struct err *err)
{
	uint32_t count = index_members(ar->ix);
	struct buf data = BUF_INIT;
	struct index_member m;
	struct err why;
	uint64_t total = 0, done = 0;
	int rc = 0;

	for (uint32_t i = 0; i < count && index_member(ar->ix, i, &m, err) == 0; i++)
		total += m.length;
	if (count > 0)
		ops->begin(arg, "files", total);
	for (uint32_t i = 0; i < count && rc == 0; i++, done += data.len) {
		why = (struct err)ERR_INIT;
		buf_reset(&data);
		if (index_member(ar->ix, i, &m, &why) == -1 || member_read(ar, i, &data, &why) == -1)
			ops->damage(arg, m.name, &why);
		rc = ops->progress(arg, done, err);
	}
	buf_free(&data);
	return (rc);
}
