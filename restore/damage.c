#include "damage.h"

#include <jansson.h>

#include "base/document.h"
#include "base/human.h"
#include "options.h"

#define SHOWN_MAX	100u

void
damage_init(struct damage *d, bool json, struct progress *progress)
{
	*d = (struct damage){ .json = json, .progress = progress };
}

void
damage_found(struct damage *d, const char *disk, uint64_t offset, uint64_t length, const char *why)
{
	char text[2048];
	json_t *e;

	progress_end(d->progress);
	d->bytes += disk != NULL ? length : 0;
	if (d->count++ >= SHOWN_MAX)
		return;
	if (disk != NULL)
		snprintf(text, sizeof(text), "disk %s, %llu bytes at offset %llu: %s", disk, (unsigned long long)length, (unsigned long long)offset,
		    why);
	else
		snprintf(text, sizeof(text), "%s", why);
	human_safe(text);
	if (!d->json) {
		fprintf(stderr, "virt-restore: damaged: %s\n", text);
		return;
	}
	e = json_pack("{s:s, s:o}", "event", "damaged", "error", doc_string(text));
	if (disk != NULL) {
		json_object_set_new(e, "disk", json_string(disk));
		json_object_set_new(e, "offset", json_integer((json_int_t)offset));
		json_object_set_new(e, "length", json_integer((json_int_t)length));
	}
	if (json_dumpf(e, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
		putchar('\n');
	json_decref(e);
}

int
damage_report(const struct damage *d, const char *what)
{
	char lost[HUMAN_LEN];

	if (d->count == 0)
		return (EXIT_DONE);
	if (d->bytes > 0)
		fprintf(stderr, "virt-restore: %s: %lu damage%s found, %s lost (%llu bytes)\n", what, d->count, d->count == 1 ? "" : "s",
		    human_size(d->bytes, lost), (unsigned long long)d->bytes);
	else
		fprintf(stderr, "virt-restore: %s: %lu damage%s found\n", what, d->count, d->count == 1 ? "" : "s");
	return (EXIT_FAILED);
}
