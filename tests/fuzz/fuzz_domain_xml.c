/* Domain XML: any bytes are refused with a reason, or give a domain whose disks can each be placed anew and are then found there. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain/domain_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_rewritten(const struct domain_desc *d, const struct domain_change *c, const char *xml, size_t len)
{
	struct domain_desc now;
	struct err err = ERR_INIT;

	assert(domain_desc_parse(&now, xml, len, &err) == 0);
	assert(strcmp(now.name, c->name != NULL ? c->name : d->name) == 0 && now.ndisks == d->ndisks);
	assert(c->nvram == NULL || strcmp(now.nvram, c->nvram) == 0);
	for (size_t i = 0; i < d->ndisks; i++) {
		assert(strcmp(now.disks[i].target, d->disks[i].target) == 0 && strcmp(now.disks[i].source, c->places[i].path) == 0);
		assert(strcmp(now.disks[i].format, c->places[i].format) == 0 && !now.disks[i].has_encryption && now.disks[i].backing == NULL);
	}
	domain_desc_free(&now);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct domain_change c = { .name = size % 2 ? "new" : NULL, .nvram = size % 3 ? NULL : "/vars.fd" };
	struct domain_disk_place *places;
	struct domain_desc d;
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	if (domain_desc_parse(&d, (const char *)data, size, &err) == -1) {
		assert(err.text[0] != '\0' && d.name == NULL && d.disks == NULL);
		return (0);
	}
	assert(d.name != NULL && d.ndisks <= DOMAIN_DISKS_MAX && (places = calloc(d.ndisks + 1, sizeof(*places))) != NULL);
	for (size_t i = 0; i < d.ndisks; i++) {
		assert(strchr(d.disks[i].target, '/') == NULL);
		places[i] = (struct domain_disk_place){ d.disks[i].target, i % 2 ? "/dev/x" : "/a & b", i % 3 ? "raw" : "qcow2", i % 2 };
	}
	c.places = places;
	c.nplaces = d.ndisks;
	if (domain_rewrite((const char *)data, size, &c, &out, &err) == 0)
		check_rewritten(&d, &c, out.ptr, out.len);
	else
		assert(c.nvram != NULL && strstr(err.text, "no <os>") != NULL && out.len == 0);
	buf_free(&out);
	free(places);
	domain_desc_free(&d);
	return (0);
}
