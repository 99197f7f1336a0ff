#include "archive/member_reader.h"

#include <string.h>

#include "archive/frame_reader.h"

/* The member's bytes from ${at} on, as far as the frame has them: *${got}. */
static int
add_frame(struct frame_reader *fr, struct archive_reader *ar, uint64_t frame, uint64_t at, uint64_t want, struct buf *out, uint64_t *got,
    struct err *err)
{
	struct index_frame f;

	if (index_frames(ar->ix, frame, 1, &f, err) == -1 || frame_reader_load_meta(fr, ar, &f, err) == -1)
		return (-1);
	/* The index was checked: the frame holds the byte at ${at}. */
	*got = f.raw - (at - f.tar_offset);
	if (*got > want)
		*got = want;
	return (buf_add(out, fr->raw + (at - f.tar_offset), (size_t)*got, err));
}

static int
read_all(struct frame_reader *fr, struct archive_reader *ar, const struct index_member *m, struct buf *out, struct err *err)
{
	size_t begin = out->len;
	uint8_t digest[DIGEST_LEN];
	uint64_t got;

	if (buf_reserve(out, (size_t)m->length, err) == -1 || buf_add(out, "", 0, err) == -1)
		return (-1);
	for (uint64_t at = 0, frame = m->frame; at < m->length; at += got, frame++)
		if (add_frame(fr, ar, frame, m->tar_offset + at, m->length - at, out, &got, err) == -1)
			return (-1);
	digest_block(index_info(ar->ix)->secret, out->ptr + begin, (size_t)m->length, digest);
	if (memcmp(digest, m->digest, DIGEST_LEN) != 0)
		return (err_set(err, 0, "%s: it does not have the digest that was taken when it was stored", ar->name));
	return (0);
}

int
member_read(struct archive_reader *ar, uint64_t n, struct buf *out, struct err *err)
{
	struct frame_reader *fr = NULL;
	size_t before = out->len;
	struct index_member m;
	int rc = -1;

	if (index_member(ar->ix, n, &m, err) == -1)
		return (-1);
	if ((fr = frame_reader_new(err)) != NULL)
		rc = read_all(fr, ar, &m, out, err);
	if (rc == -1) {
		out->len = before;
		if (out->ptr != NULL)
			out->ptr[before] = '\0';
		err_wrap(err, "file %s", m.name);
	}
	frame_reader_free(fr);
	return (rc);
}
