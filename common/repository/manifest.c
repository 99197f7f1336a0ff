#include "repository/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/document.h"
#include "base/io.h"
#include "repository/naming.h"

int
uuid_random(uint8_t id[16], struct err *err)
{
	if (io_random(id, 16, err) == -1)
		return (-1);
	id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
	id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
	return (0);
}

void
uuid_text(const uint8_t id[16], char out[UUID_LEN])
{
	size_t n = 0;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[n++] = '-';
		n += (size_t)snprintf(out + n, 3, "%02x", id[i]);
	}
}

int
uuid_parse(const char *text, uint8_t id[16])
{
	char again[UUID_LEN];
	const char *p = text;
	unsigned int byte;

	if (strlen(text) != UUID_LEN - 1)
		return (-1);
	for (int i = 0; i < 16; i++, p += 2) {
		if (*p == '-')
			p++;
		if (sscanf(p, "%2x", &byte) != 1)
			return (-1);
		id[i] = (uint8_t)byte;
	}
	uuid_text(id, again);
	return (strcmp(text, again) == 0 ? 0 : -1);
}

/* One that has no place is not left out silently: NULL. */
static json_t *
add(json_t *a, json_t *v)
{
	if (json_array_append_new(a, v) == 0)
		return (a);
	json_decref(a);
	return (NULL);
}

static json_t *
strings(const char **v, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n && a != NULL; i++)
		a = add(a, doc_string(v[i]));
	return (a);
}

static json_t *
disks(const struct manifest *m)
{
	json_t *a = json_array();

	for (size_t i = 0; i < m->ndisks && a != NULL; i++) {
		const struct manifest_disk *d = &m->disks[i];

		a = add(a, json_pack("{s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:s*, s:o*, s:o*}", "target", d->target, "member",
		    d->member, "source", doc_string(d->source), "format", d->format, "size", (json_int_t)d->size, "provisioned", (json_int_t)d->provisioned,
		    "read", (json_int_t)d->read, "data", (json_int_t)d->data, "zero", (json_int_t)d->zero, "how", d->how, "why", doc_string(d->why),
		    "identity", doc_string(d->identity)));
	}
	return (a);
}

static json_t *
members(const struct manifest *m)
{
	json_t *a = json_array();

	for (size_t i = 0; i < m->nmembers && a != NULL; i++)
		a = add(a, json_pack("{s:s, s:I}", "name", m->members[i].name, "size", (json_int_t)m->members[i].size));
	return (a);
}

int
manifest_encode(const struct manifest *m, struct buf *out, struct err *err)
{
	char begun[RFC3339_LEN], finished[RFC3339_LEN];
	const struct manifest_archive *a = &m->archive;
	json_t *o;

	time_rfc3339(m->time, begun);
	time_rfc3339(m->finished, finished);
	o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:{s:s, s:s, s:s, s:i, s:I, s:s, s:I}, s:I, s:o}",
	    "format", 1, "vm", m->vm, "time", begun, "finished", finished, "kind", m->kind, "consistency", m->consistency, "capture", m->capture,
	    "job", m->job, "host", m->host, "program", m->program, "notes", strings(m->notes, m->nnotes), "disks", disks(m),
	    "archive", "id", a->id, "file", a->file, "codec", a->codec, "level", a->level, "size", (json_int_t)a->size, "sha256", a->sha256,
	    "raw", (json_int_t)a->raw, "stored", (json_int_t)m->stored, "references", strings(m->references, m->nreferences));
	if (o != NULL && m->uuid != NULL)
		json_object_set_new(o, "uuid", json_string(m->uuid));
	if (o != NULL && m->checkpoint != NULL)
		json_object_set_new(o, "checkpoint", json_string(m->checkpoint));
	if (o != NULL && m->freeze_ms >= 0)
		json_object_set_new(o, "freeze_ms", json_integer(m->freeze_ms));
	if (o != NULL && m->nmembers > 0)
		json_object_set_new(o, "members", members(m));
	if (o != NULL && m->nreplaces > 0)
		json_object_set_new(o, "replaces", strings(m->replaces, m->nreplaces));
	return (doc_write(o, out, err));
}

static int
decode_time(const json_t *o, const char *key, time_t *t, struct err *err)
{
	const char *text;

	if (doc_text(o, key, &text, err) == -1)
		return (-1);
	if (!time_parse_rfc3339(text, t))
		return (err_set(err, 0, "\"%s\" is not a time", key));
	return (0);
}

static int
decode_strings(const json_t *o, const char *key, const char ***out, size_t *n, struct err *err)
{
	const json_t *a = json_object_get(o, key), *v;
	size_t i;

	if (!json_is_array(a))
		return (err_set(err, 0, "\"%s\" is missing or not an array", key));
	if ((*out = calloc(json_array_size(a) + 1, sizeof(**out))) == NULL)
		return (err_nomem(err));
	json_array_foreach(a, i, v)
		if (((*out)[i] = json_string_value(v)) == NULL)
			return (err_set(err, 0, "\"%s\" holds something other than strings", key));
	*n = i;
	return (0);
}

/* What only the point of a domain has. */
static int
decode_domain(const json_t *o, struct manifest *m, struct err *err)
{
	uint8_t id[16];
	uint64_t ms;

	m->freeze_ms = -1;
	m->checkpoint = json_string_value(json_object_get(o, "checkpoint"));
	if (json_object_get(o, "uuid") != NULL) {
		if (doc_text(o, "uuid", &m->uuid, err) == -1)
			return (-1);
		if (uuid_parse(m->uuid, id) == -1)
			return (err_set(err, 0, "\"uuid\" is not a UUID"));
	}
	if (json_object_get(o, "freeze_ms") != NULL) {
		if (doc_size(o, "freeze_ms", &ms, err) == -1)
			return (-1);
		m->freeze_ms = (int64_t)ms;
	}
	return (0);
}

static int
decode_disk(const json_t *o, struct manifest_disk *d, struct err *err)
{
	if (doc_text(o, "target", &d->target, err) == -1 || doc_text(o, "member", &d->member, err) == -1 ||
	    doc_text(o, "source", &d->source, err) == -1 || doc_text(o, "format", &d->format, err) == -1 ||
	    doc_size(o, "size", &d->size, err) == -1 || doc_size(o, "provisioned", &d->provisioned, err) == -1 ||
	    doc_size(o, "read", &d->read, err) == -1 || doc_size(o, "data", &d->data, err) == -1 ||
	    doc_size(o, "zero", &d->zero, err) == -1)
		return (-1);
	/* Later additions: missing in older manifests. */
	d->how = json_string_value(json_object_get(o, "how"));
	d->why = json_string_value(json_object_get(o, "why"));
	d->identity = json_string_value(json_object_get(o, "identity"));
	return (0);
}

static int
decode_disks(const json_t *o, struct manifest *m, struct err *err)
{
	const json_t *a = json_object_get(o, "disks"), *v;
	size_t i;

	if (!json_is_array(a))
		return (err_set(err, 0, "\"disks\" is missing or not an array"));
	if ((m->disks = calloc(json_array_size(a) + 1, sizeof(*m->disks))) == NULL)
		return (err_nomem(err));
	json_array_foreach(a, i, v)
		if (decode_disk(v, &m->disks[i], err) == -1)
			return (err_wrap(err, "disk %zu", i));
	m->ndisks = i;
	return (0);
}

static int
decode_members(const json_t *o, struct manifest *m, struct err *err)
{
	const json_t *a = json_object_get(o, "members"), *v;
	size_t i;

	if (a == NULL)
		return (0);
	if (!json_is_array(a))
		return (err_set(err, 0, "\"members\" is not an array"));
	if ((m->members = calloc(json_array_size(a) + 1, sizeof(*m->members))) == NULL)
		return (err_nomem(err));
	json_array_foreach(a, i, v)
		if (doc_text(v, "name", &m->members[i].name, err) == -1 || doc_size(v, "size", &m->members[i].size, err) == -1)
			return (err_wrap(err, "member %zu", i));
	m->nmembers = i;
	return (0);
}

/* A file name that stays in its folder. */
static int
decode_file(const json_t *o, const char **out, struct err *err)
{
	if (doc_text(o, "file", out, err) == -1)
		return (-1);
	if (strncmp(*out, "disks.tar", 9) != 0 || strchr(*out, '/') != NULL || strlen(*out) > 32)
		return (err_set(err, 0, "the archive's file name is not disks.tar with a codec's ending"));
	return (0);
}

static int
decode_archive(const json_t *o, struct manifest_archive *a, struct err *err)
{
	const json_t *v = json_object_get(o, "archive");
	uint8_t id[16];
	uint64_t level;

	if (!json_is_object(v))
		return (err_set(err, 0, "\"archive\" is missing or not an object"));
	if (doc_text(v, "id", &a->id, err) == -1 || decode_file(v, &a->file, err) == -1 || doc_text(v, "codec", &a->codec, err) == -1 ||
	    doc_text(v, "sha256", &a->sha256, err) == -1 || doc_size(v, "level", &level, err) == -1 ||
	    doc_size(v, "size", &a->size, err) == -1 || doc_size(v, "raw", &a->raw, err) == -1)
		return (err_wrap(err, "archive"));
	if (level > 100 || uuid_parse(a->id, id) == -1 || strlen(a->sha256) != SHA256_HEX - 1 ||
	    strspn(a->sha256, "0123456789abcdef") != SHA256_HEX - 1)
		return (err_set(err, 0, "archive: its id, level or sha256 is malformed"));
	a->level = (int)level;
	return (0);
}

int
manifest_decode(struct manifest *m, const char *text, size_t len, struct err *err)
{
	json_t *o;

	*m = (struct manifest)MANIFEST_INIT;
	if ((o = m->json = doc_parse(text, len, "the manifest", err)) == NULL)
		return (-1);
	if (doc_format_is(o, "the manifest", err) == -1)
		goto fail;
	if (doc_text(o, "vm", &m->vm, err) == -1 || decode_time(o, "time", &m->time, err) == -1 ||
	    decode_time(o, "finished", &m->finished, err) == -1 || doc_text(o, "kind", &m->kind, err) == -1 ||
	    doc_text(o, "consistency", &m->consistency, err) == -1 || doc_text(o, "capture", &m->capture, err) == -1 ||
	    doc_text(o, "job", &m->job, err) == -1 || doc_text(o, "host", &m->host, err) == -1 ||
	    doc_text(o, "program", &m->program, err) == -1 || decode_domain(o, m, err) == -1 ||
	    decode_strings(o, "notes", &m->notes, &m->nnotes, err) == -1 || decode_disks(o, m, err) == -1 || decode_members(o, m, err) == -1 ||
	    decode_archive(o, &m->archive, err) == -1 || doc_size(o, "stored", &m->stored, err) == -1 ||
	    decode_strings(o, "references", &m->references, &m->nreferences, err) == -1 ||
	    (json_object_get(o, "replaces") != NULL && decode_strings(o, "replaces", &m->replaces, &m->nreplaces, err) == -1)) {
		err_wrap(err, "the manifest is damaged");
		goto fail;
	}
	return (0);
fail:
	manifest_free(m);
	return (-1);
}

void
manifest_free(struct manifest *m)
{
	if (m->json == NULL)
		return;
	free(m->notes);
	free(m->disks);
	free(m->members);
	free(m->references);
	free(m->replaces);
	json_decref(m->json);
	*m = (struct manifest)MANIFEST_INIT;
}
