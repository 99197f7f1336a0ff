#include "replication/replica_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/document.h"

#define LIST_MAX	((size_t)64 << 20)	/* bytes */
#define PATH_LEN	(3 * NAMING_MAX)
#define KEY_LEN		(2 * NAMING_MAX)

static const char *
key_of(const char *folder, const char *name, char out[KEY_LEN])
{
	snprintf(out, KEY_LEN, "%s/%s", folder, name);
	return (out);
}

static void
replica_free(struct replica *rp)
{
	free(rp->folder);
	free(rp->there);
	free(rp->here);
	free(rp->replaces);
	*rp = (struct replica){ .folder = NULL };
}

void
replica_list_free(struct replica_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		replica_free(&l->v[i]);
	free(l->v);
	json_decref(l->by_there);
	json_decref(l->by_here);
	json_decref(l->by_id);
	*l = (struct replica_list)REPLICA_LIST_INIT;
}

static int
note(json_t *map, const char *key, size_t n, struct err *err)
{
	return (json_object_set_new_nocheck(map, key, json_integer((json_int_t)n)) == 0 ? 0 : err_nomem(err));
}

/* How an archive is held: by itself, or by one that stands for it; the first is the better. */
static int
note_id(json_t *map, const archive_id id, int how, struct err *err)
{
	char text[UUID_LEN];
	json_t *old;

	uuid_text(id, text);
	if ((old = json_object_get(map, text)) != NULL && json_integer_value(old) == 1)
		return (0);
	return (note(map, text, (size_t)how, err));
}

static int
note_all(struct replica_list *l, size_t i, struct err *err)
{
	const struct replica *rp = &l->v[i];
	char key[KEY_LEN];

	if (l->by_there == NULL)
		l->by_there = json_object();
	if (l->by_here == NULL)
		l->by_here = json_object();
	if (l->by_id == NULL)
		l->by_id = json_object();
	if ((rp->there != NULL && note(l->by_there, key_of(rp->folder, rp->there, key), i, err) == -1) ||
	    (rp->here != NULL && note(l->by_here, key_of(rp->folder, rp->here, key), i, err) == -1))
		return (-1);
	if (rp->here == NULL || !rp->has_id)
		return (0);
	for (size_t k = 0; k < rp->nreplaces; k++)
		if (note_id(l->by_id, rp->replaces[k], 2, err) == -1)
			return (-1);
	return (note_id(l->by_id, rp->id, 1, err));
}

static int
copy_text(char **out, const char *text, struct err *err)
{
	return (text == NULL || (*out = strdup(text)) != NULL ? 0 : err_nomem(err));
}

int
replica_add(struct replica_list *l, const struct replica *rp, struct err *err)
{
	struct replica *v, *mine;
	size_t cap = l->cap == 0 ? 64 : l->cap * 2;

	if (l->n == l->cap) {
		if ((v = realloc(l->v, cap * sizeof(*v))) == NULL)
			return (err_nomem(err));
		l->v = v;
		l->cap = cap;
	}
	mine = &l->v[l->n];
	*mine = (struct replica){ .has_id = rp->has_id };
	memcpy(mine->id, rp->id, sizeof(mine->id));
	if (copy_text(&mine->folder, rp->folder, err) == -1 || copy_text(&mine->there, rp->there, err) == -1 ||
	    copy_text(&mine->here, rp->here, err) == -1)
		goto fail;
	if (rp->nreplaces > 0) {
		if ((mine->replaces = calloc(rp->nreplaces, sizeof(archive_id))) == NULL) {
			err_nomem(err);
			goto fail;
		}
		memcpy(mine->replaces, rp->replaces, rp->nreplaces * sizeof(archive_id));
		mine->nreplaces = rp->nreplaces;
	}
	l->n++;
	l->changed = true;
	return (note_all(l, l->n - 1, err));
fail:
	replica_free(mine);
	return (-1);
}

static const struct replica *
find(const struct replica_list *l, const json_t *map, const char *folder, const char *name)
{
	char key[KEY_LEN];
	const json_t *at = json_object_get(map, key_of(folder, name, key));

	return (at != NULL ? &l->v[json_integer_value(at)] : NULL);
}

const struct replica *
replica_find_there(const struct replica_list *l, const char *folder, const char *name)
{
	return (find(l, l->by_there, folder, name));
}

const struct replica *
replica_find_here(const struct replica_list *l, const char *folder, const char *name)
{
	return (find(l, l->by_here, folder, name));
}

int
replica_holds(const struct replica_list *l, const archive_id id)
{
	char text[UUID_LEN];

	uuid_text(id, text);
	return ((int)json_integer_value(json_object_get(l->by_id, text)));
}

static bool
stands_for_any(const struct replica *rp, const archive_id *ids, size_t n)
{
	for (size_t i = 0; i < rp->nreplaces; i++)
		for (size_t k = 0; k < n; k++)
			if (memcmp(rp->replaces[i], ids[k], sizeof(archive_id)) == 0)
				return (true);
	return (false);
}

int
replica_holders(const struct replica_list *l, const archive_id *ids, size_t n, struct replica_holders *out, struct err *err)
{
	struct point p = { .suffix = 0 };

	if ((out->whole = calloc(n + 1, sizeof(archive_id))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < n; i++)
		if (replica_holds(l, ids[i]) == 1)
			memcpy(out->whole[out->nwhole++], ids[i], sizeof(archive_id));
	for (size_t i = 0; i < l->n; i++) {
		const struct replica *rp = &l->v[i];

		if (rp->here == NULL || !stands_for_any(rp, ids, n) || !point_name_parse(rp->here, &p.time, &p.suffix))
			continue;
		snprintf(p.folder, sizeof(p.folder), "%s", rp->folder);
		snprintf(p.name, sizeof(p.name), "%s", rp->here);
		if (points_add(&out->packed, &p, err) == -1)
			return (-1);
	}
	return (0);
}

void
replica_holders_free(struct replica_holders *h)
{
	free(h->whole);
	points_free(&h->packed);
	*h = (struct replica_holders)REPLICA_HOLDERS_INIT;
}

int
replica_forget(struct replica_list *l, bool (*is_gone)(void *arg, const struct replica *), void *arg, struct err *err)
{
	size_t kept = 0;
	int rc = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (l->v[i].here != NULL && is_gone(arg, &l->v[i]))
			replica_free(&l->v[i]);
		else
			l->v[kept++] = l->v[i];
	}
	if (kept == l->n)
		return (0);
	l->n = kept;
	l->changed = true;
	json_decref(l->by_there);
	json_decref(l->by_here);
	json_decref(l->by_id);
	l->by_there = l->by_here = l->by_id = NULL;
	for (size_t i = 0; i < l->n && rc == 0; i++)
		rc = note_all(l, i, err);
	return (rc);
}

int
archive_ids_parse(const char **texts, size_t ntexts, archive_id **out, size_t *n, struct err *err)
{
	if ((*out = calloc(ntexts + 1, sizeof(archive_id))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < ntexts; i++)
		if (uuid_parse(texts[i], (*out)[*n]) == 0)
			(*n)++;
	return (0);
}

/* The file. */

static void
list_path(const char *source, char out[PATH_LEN])
{
	snprintf(out, PATH_LEN, "%s/%s.json", REPLICAS_DIR, source);
}

static bool
is_folder(const char *name)
{
	return (strlen(name) < NAMING_MAX && member_name_valid(name));
}

/* What an entry says that is not what it must be makes it count for nothing. */
static int
take_entry(struct replica_list *l, const json_t *o, struct err *err)
{
	const char *id = json_string_value(json_object_get(o, "archive"));
	const json_t *ids = json_object_get(o, "replaces");
	struct replica rp = {
		.folder = (char *)(uintptr_t)json_string_value(json_object_get(o, "machine")),
		.there = (char *)(uintptr_t)json_string_value(json_object_get(o, "point")),
		.here = (char *)(uintptr_t)json_string_value(json_object_get(o, "here")),
	};
	const char *text;
	int rc;

	if (rp.folder == NULL || !is_folder(rp.folder) || (rp.there != NULL && !is_folder(rp.there)) || (rp.here != NULL && !is_folder(rp.here)) ||
	    (rp.here == NULL && rp.there == NULL))
		return (0);
	rp.has_id = id != NULL && uuid_parse(id, rp.id) == 0;
	if (rp.here != NULL && !rp.has_id)
		return (0);
	if ((rp.replaces = calloc(json_array_size(ids) + 1, sizeof(archive_id))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < json_array_size(ids); i++)
		if ((text = json_string_value(json_array_get(ids, i))) != NULL && uuid_parse(text, rp.replaces[rp.nreplaces]) == 0)
			rp.nreplaces++;
	rc = replica_add(l, &rp, err);
	free(rp.replaces);
	return (rc);
}

int
replica_list_load(struct repo *r, const char *source, struct replica_list *out, struct err *err)
{
	struct buf text = BUF_INIT;
	struct err why = ERR_INIT;
	char path[PATH_LEN];
	json_t *o = NULL, *points;
	int rc = 0;

	*out = (struct replica_list)REPLICA_LIST_INIT;
	list_path(source, path);
	if (source[0] == '\0' || store_stat(r->st, path, &out->file, &why) == -1 || store_read_small(r->st, path, LIST_MAX, &text, &why) == -1) {
		buf_free(&text);
		if (source[0] == '\0' || why.code == ENOENT)
			return (0);
		*err = why;
		return (-1);
	}
	/* One that is damaged is as good as none. */
	if ((o = doc_parse(text.ptr, text.len, path, &why)) != NULL && doc_format_is(o, path, &why) == 0) {
		points = json_object_get(o, "points");
		for (size_t i = 0; i < json_array_size(points) && rc == 0; i++)
			rc = take_entry(out, json_array_get(points, i), err);
	}
	out->changed = false;
	json_decref(o);
	buf_free(&text);
	return (rc);
}

bool
replica_list_is_current(struct repo *r, const char *source, const struct replica_list *l)
{
	struct err why = ERR_INIT;
	struct store_stat sb;
	char path[PATH_LEN];

	list_path(source, path);
	if (source[0] == '\0' || store_stat(r->st, path, &sb, &why) == -1)
		return (source[0] == '\0' || (why.code == ENOENT && l->n == 0));
	return (sb.size == l->file.size && sb.mtime == l->file.mtime && sb.inode == l->file.inode);
}

static json_t *
entry_json(const struct replica *rp)
{
	json_t *o = json_pack("{s:s, s:s*, s:s*}", "machine", rp->folder, "point", rp->there, "here", rp->here), *ids;
	char id[UUID_LEN];

	if (rp->has_id) {
		uuid_text(rp->id, id);
		json_object_set_new(o, "archive", json_string(id));
	}
	if (rp->nreplaces > 0) {
		ids = json_array();
		for (size_t i = 0; i < rp->nreplaces; i++) {
			uuid_text(rp->replaces[i], id);
			json_array_append_new(ids, json_string(id));
		}
		json_object_set_new(o, "replaces", ids);
	}
	return (o);
}

static int
write_list(struct store *st, const char *path, const struct buf *text, struct err *err)
{
	if (store_write_small(st, path, text, err) == 0)
		return (0);
	if (err->code != ENOENT || (store_mkdir(st, REPLICAS_DIR, err) == -1 && err->code != EEXIST))
		return (-1);
	return (store_write_small(st, path, text, err));
}

int
replica_list_save(struct repo *r, const char *source, struct replica_list *l, struct err *err)
{
	json_t *points = json_array(), *o;
	struct buf text = BUF_INIT;
	char path[PATH_LEN];
	int rc = -1;

	if (!l->changed || source[0] == '\0') {
		json_decref(points);
		return (0);
	}
	for (size_t i = 0; i < l->n; i++)
		if ((o = entry_json(&l->v[i])) != NULL)
			json_array_append_new(points, o);
	list_path(source, path);
	if (doc_write(json_pack("{s:i, s:s, s:o}", "format", 1, "source", source, "points", points), &text, err) == -1)
		goto out;
	/* Between the two there is none, and then a part of one, which is as good as none. */
	if ((store_unlink(r->st, path, err) == -1 && err->code != ENOENT) || write_list(r->st, path, &text, err) == -1)
		goto out;
	l->changed = false;
	rc = 0;
out:
	buf_free(&text);
	return (rc);
}

static int
forget_one(void *arg, const char *name, struct err *err)
{
	size_t n = strlen(name);

	if (n > 5 && strcmp(name + n - 5, ".json") == 0)
		return (buf_add(arg, name, n + 1, err));
	return (0);
}

void
replica_lists_forget(struct repo *r)
{
	struct err ignored = ERR_INIT;
	struct buf names = BUF_INIT;
	char path[PATH_LEN];

	store_list(r->st, REPLICAS_DIR, forget_one, &names, &ignored);
	for (size_t at = 0; at < names.len; at += strlen(names.ptr + at) + 1) {
		snprintf(path, sizeof(path), "%s/%.255s", REPLICAS_DIR, names.ptr + at);
		store_unlink(r->st, path, &ignored);
	}
	buf_free(&names);
}

/* The mark. */

int
replica_mark_text(const char *job, const char *from, struct buf *out, struct err *err)
{
	char now[RFC3339_LEN];

	time_rfc3339(time(NULL), now);
	return (doc_write(json_pack("{s:s, s:s, s:s}", "job", job, "from", from, "received", now), out, err));
}

int
replica_mark_read(struct repo *r, const struct point *p, struct replica_mark *out, struct err *err)
{
	struct buf text = BUF_INIT;
	struct err why = ERR_INIT;
	char path[PATH_LEN];
	const char *job, *from;
	json_t *o = NULL;
	int rc = 0;

	*out = (struct replica_mark){ .job = "" };
	snprintf(path, sizeof(path), "%.255s/%.255s/%s", p->folder, p->name, REPLICA_NAME);
	if (store_read_small(r->st, path, REPLICA_MAX, &text, &why) == -1) {
		if (why.code != ENOENT && why.code != 0) {
			*err = why;
			rc = -1;
		}
	} else if ((o = doc_parse(text.ptr, text.len, path, &why)) != NULL && doc_text(o, "job", &job, &why) == 0 &&
	    doc_text(o, "from", &from, &why) == 0) {
		snprintf(out->job, sizeof(out->job), "%s", job);
		snprintf(out->from, sizeof(out->from), "%s", from);
	}
	json_decref(o);
	buf_free(&text);
	return (rc);
}
