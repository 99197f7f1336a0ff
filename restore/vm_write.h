/*
 * vm_write.h - writes what a plan says: everything under partial names, durable, and then all names at once.
 *
 * Calling sequence:  vm_write -> vm_write_end
 */
#ifndef OVB_VM_WRITE_H
#define OVB_VM_WRITE_H

#include "partial.h"
#include "restore_disk.h"
#include "vm_plan.h"

struct small_file {
	struct partial	 partial;
	int		 fd;
	bool		 named;
};

struct vm_write {
	struct vm_plan		*plan;
	struct opened		*op;
	bool			 force;
	struct progress		*progress;
	struct restore_disk	*disks;		/* as many as in the plan */
	bool			*named;		/* of them */
	struct small_file	*files;		/* those of the plan, and then the XML */
	char			*left;		/* what is left where when the program is ended at once */
	char			**made;		/* folders, the outermost first */
	size_t			 nmade;
	bool			 complete;
};

/** vm_write(w, err): The caller has set plan, op, force and progress.  Fails: -1, also when interrupted. */
int vm_write(struct vm_write *w, struct err *err);

/** vm_write_end(w): Unless it is complete, removes what has no name yet and says on standard error what is left where. */
void vm_write_end(struct vm_write *w);

#endif
