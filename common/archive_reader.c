#include "archive_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bare_index.h"

static struct archive_reader *
reader_new(const char *a, const char *b, const char *c, struct err *err)
{
	struct archive_reader *ar = calloc(1, sizeof(*ar));
	struct buf name = BUF_INIT;

	if (ar == NULL || buf_addf(&name, err, "%s%s%s%s%s", a, b != NULL ? "/" : "", b != NULL ? b : "", c != NULL ? "/" : "",
	    c != NULL ? c : "") == -1) {
		free(ar);
		err_nomem(err);
		return (NULL);
	}
	ar->name = name.ptr;
	return (ar);
}

static int
check_same(const struct archive_reader *ar, const struct manifest *m, struct err *err)
{
	char id[UUID_LEN];

	uuid_text(index_info(ar->ix)->archive, id);
	if (strcmp(id, m->archive.id) != 0)
		return (err_set(err, 0, "%s: index.bin belongs to the archive %s, the manifest to %s: one of them was swapped", ar->name, id,
		    m->archive.id));
	if (ar->data->size != m->archive.size)
		return (err_set(err, 0, "%s has %llu bytes, but its manifest says %llu: it was cut off or changed", ar->name,
		    (unsigned long long)ar->data->size, (unsigned long long)m->archive.size));
	return (0);
}

struct archive_reader *
archive_open_point(struct repo *r, const struct point *p, const struct manifest *m, struct err *err)
{
	struct archive_reader *ar = reader_new(p->folder, p->name, m->archive.file, err);
	struct store_file *f;

	if (ar == NULL)
		return (NULL);
	if ((ar->data = repo_file(r, p, m->archive.file, err)) == NULL || (f = repo_file(r, p, INDEX_MEMBER, err)) == NULL)
		goto fail;
	if ((ar->ix = index_open(f, err)) == NULL) {
		err_wrap(err, "%s/%s/%s/" INDEX_MEMBER, r->st->url, p->folder, p->name);
		goto fail;
	}
	if (check_same(ar, m, err) == -1)
		goto fail;
	return (ar);
fail:
	archive_close(ar);
	return (NULL);
}

struct archive_reader *
archive_open_bare(const char *path, struct err *err)
{
	struct archive_reader *ar = reader_new(path, NULL, NULL, err);
	struct store_file *f;

	if (ar == NULL)
		return (NULL);
	if ((ar->data = store_dir_open_file(path, err)) == NULL)
		goto fail;
	if ((f = bare_index(ar->data, err)) == NULL || (ar->ix = index_open(f, err)) == NULL || bare_check(ar->data, ar->ix, err) == -1) {
		err_wrap(err, "%s", path);
		goto fail;
	}
	return (ar);
fail:
	archive_close(ar);
	return (NULL);
}

void
archive_close(struct archive_reader *ar)
{
	if (ar == NULL)
		return;
	store_file_close(ar->data);
	index_close(ar->ix);
	free(ar->name);
	free(ar);
}
