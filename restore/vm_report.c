#include "vm_report.h"

#include <stdio.h>
#include <string.h>

#include "base/human.h"
#include "restore_disk.h"

static const char *
format_of(const struct plan_disk *d)
{
	return (d->format == TARGET_QCOW2 ? "qcow2" : "raw");
}

static json_t *
optional(const char *text)
{
	return (text != NULL ? json_string(text) : json_null());
}

static json_t *
disks_json(const struct vm_plan *p, const struct vm_outcome *out)
{
	json_t *disks = json_array(), *o;
	const struct plan_disk *d;

	for (size_t i = 0; i < p->ndisks; i++) {
		d = &p->disks[i];
		o = json_pack("{s:s, s:s, s:s, s:b, s:I}", "disk", d->target, "target", d->path, "format", format_of(d), "block", d->block, "size",
		    (json_int_t)d->size);
		if (!out->planned)
			json_object_set_new(o, "data", json_integer((json_int_t)d->data));
		json_array_append_new(disks, o);
	}
	return (disks);
}

/* The UUID and what is named by it are chosen anew in each run. */
static void
print_json(const struct vm_plan *p, const struct vm_outcome *out)
{
	bool chosen = !(out->planned && p->renamed);
	json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:o}", "event", out->planned ? "plan" : "done", "vm", p->name, "uuid",
	    optional(chosen ? p->uuid : NULL), "disks", disks_json(p, out), "nvram", optional(p->nvram), "tpm",
	    optional(chosen || !p->tpm_in_place ? p->tpm : NULL), "xml", p->xml_path, "notes", p->notes != NULL ? json_incref(p->notes) : json_array());

	if (!out->planned) {
		json_object_set_new(o, "defined", json_boolean(out->defined));
		json_object_set_new(o, "started", json_boolean(out->started));
		json_object_set_new(o, "seconds", json_real(out->seconds));
	}
	if (json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
		putchar('\n');
	json_decref(o);
}

/* Text of the XML or the command line, as a terminal may show it. */
static void
line(const char *what, const char *text, const char *more)
{
	char safe[2048];

	snprintf(safe, sizeof(safe), "%s", text);
	printf("%-12s %s%s\n", what, human_safe(safe), more);
}

static void
print_disk(const struct plan_disk *d, const struct vm_outcome *out)
{
	char safe[2048], size[HUMAN_LEN], data[HUMAN_LEN];

	snprintf(safe, sizeof(safe), "%s: %s", d->target, d->path);
	printf("%-12s %s, %s%s, %s", "disk", human_safe(safe), d->block ? "block device, " : "", format_of(d), human_size(d->size, size));
	if (!out->planned)
		printf(", %s of data", human_size(d->data, data));
	putchar('\n');
}

void
vm_report(const struct vm_plan *p, const struct vm_outcome *out, bool json)
{
	char duration[HUMAN_LEN];

	if (json) {
		print_json(p, out);
		return;
	}
	line("machine", p->name, out->planned ? " (a dry run: nothing is written)" : "");
	line("uuid", out->planned && p->renamed ? "a new one" : p->uuid, "");
	for (size_t i = 0; i < p->ndisks; i++)
		print_disk(&p->disks[i], out);
	for (size_t i = 0; i < p->nfiles; i++)
		if (!p->files[i].tpm)
			line("nvram", p->files[i].path, "");
	if (p->tpm != NULL)
		line("tpm", out->planned && p->renamed && p->tpm_in_place ? SWTPM_FOLDER "/(its new UUID)" : p->tpm, "");
	line("xml", p->xml_path, "");
	for (size_t i = 0; i < json_array_size(p->notes); i++)
		line("note", json_string_value(json_array_get(p->notes, i)), "");
	if (out->planned)
		return;
	if (out->defined)
		line("defined", p->name, out->started ? ", and started" : "");
	else
		line("to define it", "virsh define ", p->xml_path);
	line("took", human_duration(out->seconds, duration), "");
}
