/*
 * vm_plan.h - what restoring a whole machine writes, and where: decided before anything is written.
 *
 * Calling sequence:  vm_plan_begin -> vm_plan_complete -> vm_plan_check | vm_report* | vm_write* -> vm_plan_free
 */
#ifndef OVB_VM_PLAN_H
#define OVB_VM_PLAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "domain/domain_xml.h"
#include "opened.h"
#include "target.h"

/* swtpm's state as libvirt keeps it, below a folder named by the machine's UUID. */
#define SWTPM_FOLDER	"/var/lib/libvirt/swtpm"

struct plan_disk {
	uint32_t		 number;	/* in the index */
	const char		*target;
	char			*path;
	uint64_t		 size, data;	/* bytes; data is known once it is written */
	enum target_format	 format;
	bool			 block;		/* a block device */
};

/* NVRAM, or a file of the TPM's state. */
struct plan_file {
	uint32_t	 member;	/* its number in the index */
	char		*path;
	bool		 tpm;
};

struct vm_plan {
	struct domain_desc	 was;		/* the machine in the point */
	struct buf		 source;	/* its XML */
	char			*name, *uuid;	/* of the restored one */
	bool			 renamed;
	char			*directory;	/* absolute; NULL: the places that the XML names */
	struct plan_disk	*disks;
	size_t			 ndisks;
	struct plan_file	*files;
	size_t			 nfiles;
	char			*nvram, *tpm;	/* a path, and a folder; NULL: none is written */
	bool			 tpm_in_place;	/* where libvirt looks for it */
	bool			 tpm_left;	/* there is TPM state, but nowhere to write it */
	char			*xml_path;
	struct buf		 xml;		/* as it can be defined */
	json_t			*notes;		/* strings: what a person should know */
};

#define VM_PLAN_INIT	{ .name = NULL }

/** vm_plan_begin(p, o, op, err): Read the machine's XML, and settle its name and UUID.  Fails: -1. */
int vm_plan_begin(struct vm_plan *p, const struct options *o, struct opened *op, struct err *err);

/** vm_plan_complete(p, o, op, in_place, err): The rest; ${in_place}: TPM state goes where libvirt looks for it.  Fails: -1. */
int vm_plan_complete(struct vm_plan *p, const struct options *o, struct opened *op, bool in_place, struct err *err);

/** vm_plan_check(p, force, err): Whether nothing is in the way of it.  Fails: -1. */
int vm_plan_check(const struct vm_plan *p, bool force, struct err *err);

/** vm_plan_note(p, fmt, ...): Add a note. */
void vm_plan_note(struct vm_plan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void vm_plan_free(struct vm_plan *p);

#endif
