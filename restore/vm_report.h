/* vm_report.h - the restore of a machine, planned or done, as text and as JSON, on standard output. */
#ifndef OVB_VM_REPORT_H
#define OVB_VM_REPORT_H

#include "vm_plan.h"

struct vm_outcome {
	bool	 planned;		/* a dry run */
	bool	 defined, started;
	double	 seconds;
};

void vm_report(const struct vm_plan *p, const struct vm_outcome *out, bool json);

#endif
