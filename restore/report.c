#include "report.h"

#include <stdio.h>
#include <string.h>

#include "base/human.h"

static uint64_t
sum_provisioned(const struct manifest *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->ndisks; i++)
		sum += m->disks[i].provisioned;
	return (sum);
}

static uint64_t
sum_size(const struct manifest *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->ndisks; i++)
		sum += m->disks[i].size;
	return (sum);
}

const char *
report_spec(const struct point *p, const struct manifest *m, char out[2 * NAMING_MAX])
{
	return (point_spec_format(m->vm, p->time, p->suffix, out));
}

/* The manifest itself, with what follows from it. */
json_t *
report_point_json(const struct point *p, const struct manifest *m, bool is_protected)
{
	char spec[2 * NAMING_MAX];
	json_t *o = json_copy(m->json);

	json_object_set_new(o, "point", json_string(report_spec(p, m, spec)));
	json_object_set_new(o, "size", json_integer((json_int_t)sum_size(m)));
	json_object_set_new(o, "provisioned", json_integer((json_int_t)sum_provisioned(m)));
	json_object_set_new(o, "protected", json_boolean(is_protected));
	if (json_object_get(o, "members") == NULL)
		json_object_set_new(o, "members", json_array());
	return (o);
}

/* Text of a manifest, as a terminal may show it. */
static const char *
safe(const char *text, char out[2 * NAMING_MAX])
{
	snprintf(out, 2 * NAMING_MAX, "%.510s", text);
	return (human_safe(out));
}

void
report_point_line(const struct point *p, const struct manifest *m, bool is_protected, bool first)
{
	char spec[2 * NAMING_MAX], size[HUMAN_LEN], provisioned[HUMAN_LEN], stored[HUMAN_LEN], kind[2 * NAMING_MAX], how[2 * NAMING_MAX];

	if (first)
		printf("%-40s %-11s %-16s %5s %9s %11s %9s\n", "POINT", "KIND", "CONSISTENCY", "DISKS", "SIZE", "PROVISIONED", "STORED");
	report_spec(p, m, spec);
	printf("%-40s %-11s %-16s %5zu %9s %11s %9s%s\n", human_safe(spec), safe(m->kind, kind), safe(m->consistency, how), m->ndisks,
	    human_size(sum_size(m), size), human_size(sum_provisioned(m), provisioned), human_size(m->stored, stored),
	    is_protected ? "  protected" : "");
}

void
report_point(const struct point *p, const struct manifest *m, bool is_protected, bool json)
{
	char a[2 * NAMING_MAX], b[2 * NAMING_MAX], c[2 * NAMING_MAX], size[HUMAN_LEN], provisioned[HUMAN_LEN], stored[HUMAN_LEN];

	if (json) {
		json_t *o = report_point_json(p, m, is_protected);

		if (json_dumpf(o, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) == 0)
			putchar('\n');
		json_decref(o);
		return;
	}
	report_spec(p, m, a);
	printf("point        %s\n", human_safe(a));
	printf("kind         %s, %s (capture: %s)\n", safe(m->kind, a), safe(m->consistency, b), safe(m->capture, c));
	printf("made by      job %s on %s, %s\n", safe(m->job, a), safe(m->host, b), safe(m->program, c));
	printf("archive      %s, %s level %d, %s, id %s\n", safe(m->archive.file, a), safe(m->archive.codec, b), m->archive.level,
	    human_size(m->archive.size, stored), m->archive.id);
	for (size_t i = 0; i < m->ndisks; i++)
		printf("disk         %s: %s, %s provisioned, %s of %s\n", safe(m->disks[i].target, a), human_size(m->disks[i].size, size),
		    human_size(m->disks[i].provisioned, provisioned), safe(m->disks[i].format, b), safe(m->disks[i].source, c));
	for (size_t i = 0; i < m->nmembers; i++)
		printf("file         %s: %s\n", safe(m->members[i].name, a), human_size(m->members[i].size, size));
	if (is_protected)
		printf("protected    from pruning\n");
	for (size_t i = 0; i < m->nnotes; i++)
		printf("note         %s\n", safe(m->notes[i], a));
}

bool
report_protected(struct repo *r, const struct point *p)
{
	struct err ignored = ERR_INIT;
	bool yes = false;

	return (repo_is_protected(r, p, &yes, &ignored) == 0 && yes);
}

/* The small members of a bare archive; text is printed at once. */
static json_t *
archive_members(const struct archive_reader *ar, bool json)
{
	struct err ignored = ERR_INIT;
	json_t *a = json_array();
	struct index_member m;
	char size[HUMAN_LEN];

	for (uint32_t i = 0; i < index_members(ar->ix) && index_member(ar->ix, i, &m, &ignored) == 0; i++) {
		json_array_append_new(a, json_pack("{s:s, s:I}", "name", m.name, "size", (json_int_t)m.length));
		if (!json)
			printf("file         %s: %s\n", m.name, human_size(m.length, size));
	}
	return (a);
}

void
report_archive(const struct archive_reader *ar, bool json)
{
	const struct index_info *in = index_info(ar->ix);
	char id[UUID_LEN], begun[RFC3339_LEN], size[HUMAN_LEN], stored[HUMAN_LEN];
	const struct index_disk *d;
	json_t *disks = json_array(), *o;

	uuid_text(in->archive, id);
	time_rfc3339((time_t)in->time, begun);
	if (!json)
		printf("archive      %s, %s level %d, %s, of %s, id %s\n", ar->name, in->codec->name, in->level,
		    human_size(ar->data->size, stored), begun, id);
	for (uint32_t i = 0; i < index_disks(ar->ix); i++) {
		d = index_disk(ar->ix, i);
		json_array_append_new(disks, json_pack("{s:s, s:s, s:I}", "target", d->target, "member", d->member, "size", (json_int_t)d->size));
		if (!json)
			printf("disk         %s: %s\n", d->target, human_size(d->size, size));
	}
	o = json_pack("{s:s, s:s, s:s, s:i, s:I, s:o, s:o}", "archive", id, "time", begun, "codec", in->codec->name, "level", in->level, "stored",
	    (json_int_t)ar->data->size, "disks", disks, "members", archive_members(ar, json));
	if (json && json_dumpf(o, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) == 0)
		putchar('\n');
	json_decref(o);
}
