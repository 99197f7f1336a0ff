/* virt-restore vm: a whole machine: its disks, NVRAM, TPM state and XML, and on request its domain. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/human.h"
#include "hypervisor.h"
#include "vm_report.h"
#include "vm_write.h"

struct restore_vm {
	const struct options	*o;
	struct opened		 op;
	struct vm_plan		 plan;
	struct vm_write		 write;
	struct progress		 progress;
	struct vm_outcome	 outcome;
	bool			 define;	/* asked for, and there is a libvirt to do it */
	bool			 absent;	/* asked for, but there is none */
};

static struct hypervisor_domain
domain_of(const struct restore_vm *v)
{
	return ((struct hypervisor_domain){ .uri = v->o->connect != NULL ? v->o->connect : HYPERVISOR_DEFAULT, .name = v->plan.name, .uuid = v->plan.uuid,
	    .xml = v->plan.xml.ptr, .force = v->o->force, .start = v->o->start });
}

/* Before anything is written.  Without a libvirt the rest is done all the same: it may be what has to be installed next. */
static int
ask_hypervisor(struct restore_vm *v, struct err *err)
{
	struct hypervisor_domain d = domain_of(v);
	struct err why = ERR_INIT;

	if (!v->o->define && !v->o->start)
		return (0);
	switch (hypervisor_check(&d, &why)) {
	case HYPERVISOR_DONE:
		v->define = true;
		return (0);
	case HYPERVISOR_ABSENT:
		v->absent = true;
		fprintf(stderr, "virt-restore: warning: %s: the machine will not be defined, the rest is restored\n", human_safe(why.text));
		return (0);
	default:
		*err = why;
		return (-1);
	}
}

static int
make_plan(struct restore_vm *v, struct err *err)
{
	const struct options *o = v->o;

	if (open_point(o, o->args[0], &v->op, err) == -1 || vm_plan_begin(&v->plan, o, &v->op, err) == -1 || ask_hypervisor(v, err) == -1)
		return (-1);
	/* Only of the system's libvirt is it known where it keeps TPM state. */
	return (vm_plan_complete(&v->plan, o, &v->op, v->define && (o->connect == NULL || strcmp(o->connect, HYPERVISOR_DEFAULT) == 0), err));
}

static int
define(struct restore_vm *v, struct err *err)
{
	struct hypervisor_domain d = domain_of(v);
	enum hypervisor_answer answer;

	if (!v->define)
		return (0);
	answer = hypervisor_define(&d, err);
	v->outcome.defined = answer == HYPERVISOR_DONE || answer == HYPERVISOR_NOT_STARTED;
	v->outcome.started = answer == HYPERVISOR_DONE && d.start;
	if (answer == HYPERVISOR_DONE)
		return (0);
	return (err_wrap(err, v->outcome.defined ? "all is restored, and the machine is defined, but not started" :
	    "all is restored, but the machine is not defined"));
}

static int
restore(struct restore_vm *v)
{
	struct timespec begun, now;
	struct err err = ERR_INIT;
	int rc;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	v->write = (struct vm_write){ .plan = &v->plan, .op = &v->op, .force = v->o->force, .progress = &v->progress };
	rc = vm_write(&v->write, &err);
	progress_end(&v->progress);
	if (rc == -1)
		rc = print_error(&err);
	vm_write_end(&v->write);
	if (rc != EXIT_DONE)
		return (rc);
	rc = define(v, &err);
	clock_gettime(CLOCK_MONOTONIC, &now);
	v->outcome.seconds = (double)(now.tv_sec - begun.tv_sec) + (double)(now.tv_nsec - begun.tv_nsec) / 1e9;
	vm_report(&v->plan, &v->outcome, v->o->json);
	if (rc == -1)
		return (print_error(&err));
	if (v->absent)
		fprintf(stderr, "virt-restore: all is restored, but the machine %s is not defined\n", v->plan.name);
	return (v->absent ? EXIT_FAILED : EXIT_DONE);
}

int
command_vm(const struct options *o)
{
	struct restore_vm v = { .o = o, .op = OPENED_INIT, .plan = VM_PLAN_INIT };
	struct err err = ERR_INIT;
	int rc = EXIT_DONE;

	progress_init(&v.progress, o->json, stderr, stdout);
	if (make_plan(&v, &err) == -1)
		rc = print_error(&err);
	else {
		v.outcome.planned = o->dry_run;
		if (o->dry_run)
			vm_report(&v.plan, &v.outcome, o->json);
		if (vm_plan_check(&v.plan, o->force, &err) == -1)
			rc = print_error(&err);
		else if (!o->dry_run)
			rc = restore(&v);
	}
	vm_plan_free(&v.plan);
	opened_close(&v.op);
	return (rc);
}
