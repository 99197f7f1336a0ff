/* Names from outside: what they become in a repository, on the command line and in a tar header. */
#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/tar.h"
#include "config/compression.h"
#include "repository/manifest.h"
#include "repository/naming.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return (n >= m && strcmp(s + n - m, end) == 0);
}

/* A folder's name is its own, and tells the machine's again. */
static void
check_folder(const char *name)
{
	char folder[NAMING_MAX], again[NAMING_MAX];
	struct err err = ERR_INIT;
	unsigned int byte;
	size_t n = 0;

	if (name_escape(name, folder, &err) == -1) {
		assert(name[0] == '\0' || strlen(name) > 80);
		return;
	}
	assert(folder[0] != '\0' && folder[0] != '.' && strchr(folder, '/') == NULL && strlen(folder) < NAMING_MAX);
	assert(!ends_with(folder, ".partial") && !ends_with(folder, ".json") && !ends_with(folder, ".old") && !ends_with(folder, ".new") &&
	    !ends_with(folder, ".lock"));
	for (const char *p = folder; *p != '\0'; p++, n++) {
		assert((unsigned char)*p > 0x20 && *p != 0x7f && *p != '\\' && *p != '*');
		if (*p != '%')
			again[n] = *p;
		else {
			assert(sscanf(p + 1, "%2X", &byte) == 1);
			again[n] = (char)byte;
			p += 2;
		}
	}
	again[n] = '\0';
	assert(strcmp(again, name) == 0);
}

static void
check_times(const char *text)
{
	char again[NAMING_MAX];
	struct compression c;
	struct point_spec spec;
	struct err err = ERR_INIT;
	unsigned int suffix;
	uint8_t id[16];
	time_t t;

	if (point_name_parse(text, &t, &suffix)) {
		point_name(t, suffix, again);
		assert(strcmp(text, again) == 0 && suffix >= 1);
	}
	if (time_parse_rfc3339(text, &t)) {
		time_rfc3339(t, again);
		assert(strcmp(text, again) == 0);
	}
	if (uuid_parse(text, id) == 0) {
		uuid_text(id, again);
		assert(strcmp(text, again) == 0);
	}
	if (point_spec_parse(text, &spec, &err) == 0)
		assert(spec.vm[0] != '\0' && strchr(spec.prefix, ':') == NULL && strchr(spec.prefix, '@') == NULL);
	else
		assert(err.text[0] != '\0');
	if (compression_parse(text, &c, &err) == 0)
		assert(c.level >= 0 && c.level <= 19);
}

static int
append(void *arg, const void *p, size_t n, struct err *err)
{
	return (buf_add(arg, p, n, err));
}

/* libarchive composes what it reads (NFC): then a member of its own making is read under the same name. */
static bool
is_composed(const char *name, const char *got)
{
	struct archive *w = archive_write_new(), *r = archive_read_new();
	struct archive_entry *e = archive_entry_new();
	static char room[65536];
	size_t used = 0;
	bool same;

	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_size(e, 0);
	assert(archive_write_set_format_pax(w) == ARCHIVE_OK && archive_write_open_memory(w, room, sizeof(room), &used) == ARCHIVE_OK &&
	    archive_write_header(w, e) == ARCHIVE_OK && archive_write_free(w) == ARCHIVE_OK);
	archive_entry_free(e);
	assert(archive_read_support_format_tar(r) == ARCHIVE_OK && archive_read_open_memory(r, room, used) == ARCHIVE_OK &&
	    archive_read_next_header(r, &e) == ARCHIVE_OK);
	same = strcmp(archive_entry_pathname(e), got) == 0;
	archive_read_free(r);
	return (same);
}

/* A member of this name is read by libarchive as what it is. */
static void
check_member(const char *name)
{
	struct err err = ERR_INIT;
	struct extents *ex = extents_new(10000, &err);
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	struct buf out = BUF_INIT;

	if (name[0] == '\0' || strlen(name) > 255 || strchr(name, '/') != NULL || !utf8_valid(name))
		goto out;
	assert(extents_add(ex, 9728, 272, &err) == 0 && extents_end(ex, &err) == 0);
	assert(tar_sparse_header(&out, name, ex, 0, &err) == 0 && tar_sparse_map(ex, append, &out, &err) == 0);
	assert(buf_add(&out, (char[512 + 1024]){ 0 }, 512 + 1024, &err) == 0);
	/* Without a locale for UTF-8, libarchive has no name to give. */
	assert(setlocale(LC_CTYPE, "C.UTF-8") != NULL);
	assert(archive_read_support_format_tar(a) == ARCHIVE_OK && archive_read_open_memory(a, out.ptr, out.len) == ARCHIVE_OK);
	assert(archive_read_next_header(a, &e) == ARCHIVE_OK);
	assert(strcmp(archive_entry_pathname(e), name) == 0 || is_composed(name, archive_entry_pathname(e)));
	assert(archive_entry_size(e) == 10000 && archive_entry_sparse_count(e) == 1);
out:
	archive_read_free(a);
	extents_free(ex);
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	assert(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	check_folder(text);
	check_times(text);
	check_member(text);
	(void)utf8_valid(text);
	free(text);
	return (0);
}
