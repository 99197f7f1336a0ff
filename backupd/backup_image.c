#include "backup_image.h"

#include <time.h>

static int
store_image(const struct backup_run *run, const struct image_file *file, struct source *s, struct point_store *ps, struct point_result *result,
    struct err *err)
{
	struct point_facts facts = { .capture = "image", .consistency = s->in_use ? "inconsistent" : "offline", .freeze_ms = -1 };

	if (backup_stopped(run, err) == -1 || point_store_disk(ps, file->vm, file->member, "raw", s, err) == -1 ||
	    point_store_finish(ps, err) == -1 || source_settled(s, err) == -1)
		return (-1);
	if (s->in_use)
		point_store_note(ps, "the image was held for writing by a QEMU while it was read (in_use = \"allow\")");
	return (point_store_publish(ps, &facts, result, err));
}

int
backup_image(const struct backup_run *run, const struct image_file *file, struct point_result *result, struct err *err)
{
	struct source *s = source_image_open(file->path, run->job->in_use_allow, err);
	struct chain chain = CHAIN_INIT;
	struct point_store *ps = NULL;
	int rc = -1;

	if (s != NULL) {
		point_store_chain(run, file->vm, NULL, &chain);
		if ((ps = point_store_begin(run, file->vm, &chain, time(NULL), err)) != NULL)
			rc = store_image(run, file, s, ps, result, err);
	}
	point_store_end(ps);
	chain_close(&chain);
	source_close(s);
	return (rc);
}
