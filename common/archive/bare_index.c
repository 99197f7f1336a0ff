#include "archive/bare_index.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive/frame_stream.h"
#include "archive/index_check.h"
#include "archive/tar.h"
#include "base/io.h"
#include "base/le.h"

#define TAIL_LOOK	((size_t)64 << 10)		/* the tail frame begins within so many bytes of the end */
#define TAIL_RAW_MAX	(INDEX_TRAILER_LEN + 2 * TAR_BLOCK + TAR_RECORD)
#define INDEX_MAX	((uint64_t)64 << 30)		/* longer than that of any disk that fits a file system: refuse to unpack a bomb */

struct trailer {
	const struct codec	*codec;
	uint8_t			 archive[ARCHIVE_ID_LEN], digest[DIGEST_LEN];
	uint64_t		 length;		/* of the index */
	uint64_t		 offset;		/* of the frame that begins with its header */
};

static bool
parse_trailer(const uint8_t *t, const struct codec *codec, uint64_t size, struct trailer *out)
{
	uint8_t digest[DIGEST_LEN];

	digest_plain(t, 496, digest);
	if (memcmp(t, "OVBTRAIL", 8) != 0 || memcmp(t + 496, digest, DIGEST_LEN) != 0 || le32_get(t + 8) != INDEX_VERSION ||
	    le32_get(t + 12) != codec->id)
		return (false);
	out->codec = codec;
	memcpy(out->archive, t + 16, ARCHIVE_ID_LEN);
	out->length = le64_get(t + 32);
	out->offset = le64_get(t + 40);
	memcpy(out->digest, t + 56, DIGEST_LEN);
	return (out->offset < size && out->length <= INDEX_MAX);
}

static bool
try_tail(const struct codec *codec, void *dec, const uint8_t *p, size_t n, uint64_t size, struct trailer *out)
{
	struct err ignored = ERR_INIT;
	uint8_t raw[TAIL_RAW_MAX];
	size_t used, len;

	return (codec->may_begin(p, n) && codec->decode(dec, p, n, &used, raw, sizeof(raw), &len, &ignored) == 0 && used == n &&
	    len >= INDEX_TRAILER_LEN && parse_trailer(raw, codec, size, out));
}

/* One that is not compressed begins with a tar header. */
const struct codec *
bare_codec(struct store_file *data, struct err *err)
{
	uint8_t head[16] = { 0 };
	const struct codec *c;

	if (store_file_read(data, head, data->size < sizeof(head) ? (size_t)data->size : sizeof(head), 0, err) == -1)
		return (NULL);
	for (uint32_t id = 1; id <= 3; id++)
		if ((c = codec_by_id(id)) != NULL && c->may_begin(head, sizeof(head)))
			return (c);
	return (&codec_none);
}

static int
find_trailer(struct store_file *data, struct trailer *out, struct err *err)
{
	size_t n = data->size < TAIL_LOOK ? (size_t)data->size : TAIL_LOOK, at;
	uint8_t *buf = malloc(n + 1);
	const struct codec *codec;
	void *dec = NULL;
	int rc = -1;

	if (buf == NULL)
		return (err_nomem(err));
	if (store_file_read(data, buf, n, data->size - n, err) == -1 || (codec = bare_codec(data, err)) == NULL)
		goto out;
	if ((dec = codec->decoder_new(err)) == NULL)
		goto out;
	for (at = n; at-- > 0 && rc == -1;)
		if (try_tail(codec, dec, buf + at, n - at, data->size, out))
			rc = 0;
	if (rc == -1)
		err_set(err, 0, "there is no index at its end: it is cut off, damaged, or no archive of this program");
out:
	if (dec != NULL)
		codec->decoder_free(dec);
	free(buf);
	return (rc);
}

/* For libarchive's reader: the frames' bytes, and the first error. */
struct tar_input {
	struct frame_stream	*fs;
	struct err		*err;
};

static la_ssize_t
next_frame(struct archive *a, void *arg, const void **p)
{
	struct tar_input *in = arg;
	const uint8_t *raw;
	size_t len = 0;
	int r;

	if ((r = frame_stream_next(in->fs, &raw, &len, in->err)) == -1) {
		archive_set_error(a, EIO, "%s", in->err->text);
		return (-1);
	}
	*p = raw;
	return (r == 0 ? 0 : (la_ssize_t)len);
}

/*
 * The member's data to ${fd}, which ${f} reads; it must be as long as the trailer says.  A small archive can claim, and unpack to, a very long
 * index: its header and section table, which account for its length, are checked as soon as they are there.
 */
static int
copy_member(struct archive *a, int fd, struct store_file *f, const struct trailer *t, struct err *err)
{
	struct archive_entry *e;
	uint64_t at = 0;
	const char *name;
	const void *p;
	la_int64_t offset;
	size_t n;
	int r, head = 0;

	if (archive_read_next_header(a, &e) != ARCHIVE_OK)
		return (err_set(err, 0, "its member " INDEX_MEMBER " cannot be read: %s", archive_error_string(a)));
	/* A name that the locale cannot show is none. */
	if ((name = archive_entry_pathname(e)) == NULL || strcmp(name, INDEX_MEMBER) != 0 || (uint64_t)archive_entry_size(e) != t->length)
		return (err_set(err, 0, "its trailer does not point at " INDEX_MEMBER));
	while ((r = archive_read_data_block(a, &p, &n, &offset)) == ARCHIVE_OK) {
		if ((uint64_t)offset != at || n > t->length - at)
			return (err_set(err, 0, "its member " INDEX_MEMBER " is damaged"));
		if (io_pwrite(fd, p, n, at) == -1)
			return (io_temp_failed(errno, "write", err));
		at += n;
		if (head == 0 && (head = index_check_head(f, at, t->digest, err)) == -1)
			return (-1);
	}
	if (r != ARCHIVE_EOF || at != t->length)
		return (err_set(err, 0, "its member " INDEX_MEMBER " is damaged: %s", r != ARCHIVE_EOF ? archive_error_string(a) : "it is cut off"));
	return (0);
}

/* A temporary file of the index's length, for which there is room: to write at *${fd}, and to read. */
static struct store_file *
make_room(uint64_t length, int *fd, struct err *err)
{
	if ((*fd = io_tempfile(err)) == -1)
		return (NULL);
	if (io_temp_room(*fd, length, "its index", err) == -1 ||
	    (ftruncate(*fd, (off_t)length) == -1 && io_temp_failed(errno, "extend", err) == -1)) {
		io_close(fd);
		return (NULL);
	}
	return (store_dir_wrap(*fd, INDEX_MEMBER, err));
}

struct store_file *
bare_index(struct store_file *data, struct err *err)
{
	struct tar_input in = { .err = err };
	struct store_file *f = NULL;
	struct archive *a = NULL;
	struct trailer t;
	int fd = -1, rc = -1;

	if (find_trailer(data, &t, err) == -1 || (in.fs = frame_stream_new(data, t.codec, t.offset, err)) == NULL)
		goto out;
	if ((a = archive_read_new()) == NULL || archive_read_support_format_tar(a) != ARCHIVE_OK) {
		err_nomem(err);
		goto out;
	}
	if (archive_read_open(a, &in, NULL, next_frame, NULL) != ARCHIVE_OK) {
		err_set(err, 0, "its index cannot be read: %s", archive_error_string(a));
		goto out;
	}
	if ((f = make_room(t.length, &fd, err)) == NULL)
		goto out;
	rc = copy_member(a, fd, f, &t, err);
out:
	archive_read_free(a);
	frame_stream_free(in.fs);
	if (rc == 0)
		return (f);
	store_file_close(f);
	return (NULL);
}

int
bare_check(struct store_file *data, const struct index_reader *ix, struct err *err)
{
	struct trailer t = { .codec = NULL };

	if (find_trailer(data, &t, err) == -1)
		return (-1);
	if (memcmp(t.archive, index_info(ix)->archive, ARCHIVE_ID_LEN) != 0 || memcmp(t.digest, index_file_digest(ix), DIGEST_LEN) != 0 ||
	    t.length != index_length(ix) || t.codec != index_info(ix)->codec)
		return (err_set(err, 0, "its index is not the one that its end names: it was put together from two archives"));
	return (0);
}
