#include "archive/frame_copy.h"

#include <string.h>

int
frame_copy_find(struct frame_copy *fc, const struct archive_copy *from, const struct frame_limits *max, struct err *err)
{
	struct archive_reader *ar = from->ar;

	if (index_frames(ar->ix, from->number, 1, &fc->there, err) == -1)
		return (-1);
	if (index_info(ar->ix)->codec != max->codec || fc->there.raw > max->raw || fc->there.stored > max->stored || fc->there.blocks > max->blocks)
		return (err_set(err, 0, "%s: its frames cannot be taken over as they are", ar->name));
	fc->from = *from;
	return (0);
}

int
frame_copy_read(const struct frame_copy *fc, uint8_t *p, struct err *err)
{
	return (store_file_read(fc->from.ar->data, p, fc->there.stored, fc->there.offset, err));
}

int
frame_copy_digest(const struct frame_copy *fc, const uint8_t *p, const uint8_t secret[SECRET_LEN], struct frame_reader **fr, struct index_block *blocks,
    struct err *err)
{
	struct archive_reader *ar = fc->from.ar;
	struct index_block *b;
	size_t at = 0;

	if (*fr == NULL && (*fr = frame_reader_new(err)) == NULL)
		return (-1);
	if (frame_reader_decode(*fr, ar, fc->from.source, &fc->there, p, err) == -1)
		return (err_wrap(err, "%s: frame at %llu", ar->name, (unsigned long long)fc->there.offset));
	for (uint32_t i = 0; i < fc->there.blocks; i++, at += b->length) {
		b = &blocks[i];
		*b = (*fr)->blocks[i];
		if (!frame_reader_block_is_good(*fr, i, at))
			return (err_set(err, 0, "%s: disk offset %llu: the block does not have the digest that was taken when it was stored", ar->name,
			    (unsigned long long)b->offset));
		digest_block(secret, (*fr)->raw + at, b->length, b->digest);
	}
	return (0);
}

int
frame_copies_begin(struct frame_copies *cs, struct spool *sp, struct err *err)
{
	cs->have = false;
	if (sp == NULL)
		return (0);
	spool_cursor_init(&cs->c, sp);
	return (frame_copies_next(cs, err));
}

int
frame_copies_next(struct frame_copies *cs, struct err *err)
{
	const void *r;
	int more;

	if ((more = spool_next(&cs->c, &r, err)) == 1)
		memcpy(&cs->next, r, sizeof(cs->next));
	cs->have = more == 1;
	return (more == -1 ? -1 : 0);
}
