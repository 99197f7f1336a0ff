/*
 * xml_doc.h - XML documents (libxml2) from outside, held to bounds while they are parsed; and small steps in their trees.
 *
 * A document is refused when it is larger than XML_DOC_MAX, nests deeper than libxml2 allows without XML_PARSE_HUGE (256), has more than
 * XML_NODES_MAX elements, attributes, comments and processing instructions together, or has a document type: so there are no entities, nothing is
 * fetched, and memory stays within bounds.  It is UTF-8, whatever it says of itself.
 */
#ifndef OVB_XML_DOC_H
#define OVB_XML_DOC_H

#include <libxml/tree.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define XML_DOC_MAX	((size_t)16 << 20)	/* bytes */
#define XML_NODES_MAX	100000u
#define XML_TEXT_MAX	((size_t)4096)		/* bytes, of a value that is taken out of a document */

/** xml_doc_parse(xml, len, root, err): A document whose root element is ${root}, for xmlFreeDoc().  Threads: any.  Fails: NULL. */
xmlDocPtr xml_doc_parse(const char *xml, size_t len, const char *root, struct err *err);

/** xml_doc_write(doc, out, err): Append ${doc} in UTF-8 without an XML declaration; white space as it is.  Fails: -1. */
int xml_doc_write(xmlDocPtr doc, struct buf *out, struct err *err);

/** xml_first(parent, name): The first child element ${name}, in no namespace, or NULL.  ${parent} may be NULL. */
xmlNodePtr xml_first(xmlNodePtr parent, const char *name);

/** xml_next(n, name): The next sibling element of that name, or NULL. */
xmlNodePtr xml_next(xmlNodePtr n, const char *name);

/** xml_only(parent, name, out, err): As xml_first(), but Fails: -1 when there is more than one. */
int xml_only(xmlNodePtr parent, const char *name, xmlNodePtr *out, struct err *err);

/** xml_attribute_is(n, name, value): Whether ${n}, which may be NULL, has the attribute with that value. */
bool xml_attribute_is(xmlNodePtr n, const char *name, const char *value);

/**
 * xml_attribute(n, name, out, err):
 * *${out} becomes a copy of the attribute, for free(); NULL when there is none, it is empty, or ${n} is NULL.  Fails: -1 when it is longer than
 * XML_TEXT_MAX.
 */
int xml_attribute(xmlNodePtr n, const char *name, char **out, struct err *err);

/** xml_text(n, out, err): The same of the text in ${n}, without white space around it. */
int xml_text(xmlNodePtr n, char **out, struct err *err);

/** xml_set_attribute(n, name, value, err): Fails: -1. */
int xml_set_attribute(xmlNodePtr n, const char *name, const char *value, struct err *err);

/** xml_set_text(n, text, err): ${text} becomes all that is in ${n}.  Fails: -1. */
int xml_set_text(xmlNodePtr n, const char *text, struct err *err);

/** xml_add(parent, before, name, err): A new element before the child ${before} (NULL: the last one), on a line of its own.  Fails: NULL. */
xmlNodePtr xml_add(xmlNodePtr parent, xmlNodePtr before, const char *name, struct err *err);

/** xml_escape(b, text, err): Append ${text} as it stands in XML, be it in an attribute or not.  Fails: -1. */
int xml_escape(struct buf *b, const char *text, struct err *err);

/** xml_remove(n): Take ${n} out and free it, with the white space before it; harmless on NULL. */
void xml_remove(xmlNodePtr n);

/** xml_remove_all(parent, name): Take out every child element ${name}.  Returns whether there was one. */
bool xml_remove_all(xmlNodePtr parent, const char *name);

/** xml_remove_attribute(n, name): Harmless when there is none. */
void xml_remove_attribute(xmlNodePtr n, const char *name);

#endif
