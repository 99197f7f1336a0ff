#include "domain/xml_doc.h"

#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <libxml/xmlsave.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SPACE	" \t\r\n"

/* Why the parser was stopped. */
struct bounds {
	unsigned int	 nodes;
	bool		 doctype;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct bounds *
bounds_of(void *ctx)
{
	return (((xmlParserCtxtPtr)ctx)->_private);
}

/* Returns whether there is room for ${n} more. */
static bool
count(void *ctx, unsigned int n)
{
	struct bounds *b = bounds_of(ctx);

	if (n <= XML_NODES_MAX && (b->nodes += n) <= XML_NODES_MAX)
		return (true);
	b->nodes = XML_NODES_MAX + 1;
	xmlStopParser(ctx);
	return (false);
}

static void
on_doctype(void *ctx, const xmlChar *name, const xmlChar *public_id, const xmlChar *system_id)
{
	(void)name;
	(void)public_id;
	(void)system_id;
	bounds_of(ctx)->doctype = true;
	xmlStopParser(ctx);
}

static void
on_element(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int nnamespaces, const xmlChar **namespaces,
    int nattributes, int ndefaulted, const xmlChar **attributes)
{
	if (count(ctx, 1 + (unsigned int)nattributes + (unsigned int)nnamespaces))
		xmlSAX2StartElementNs(ctx, name, prefix, uri, nnamespaces, namespaces, nattributes, ndefaulted, attributes);
}

static void
on_comment(void *ctx, const xmlChar *value)
{
	if (count(ctx, 1))
		xmlSAX2Comment(ctx, value);
}

static void
on_instruction(void *ctx, const xmlChar *target, const xmlChar *data)
{
	if (count(ctx, 1))
		xmlSAX2ProcessingInstruction(ctx, target, data);
}

static void
on_cdata(void *ctx, const xmlChar *value, int len)
{
	if (count(ctx, 1))
		xmlSAX2CDataBlock(ctx, value, len);
}

/* What libxml2 says ends with a newline. */
static int
malformed(xmlParserCtxtPtr ctxt, struct err *err)
{
	const xmlError *e = xmlCtxtGetLastError(ctxt);
	const char *why = e != NULL && e->message != NULL ? e->message : "not well-formed";

	return (err_set(err, 0, "this is no sound XML: line %d: %.*s", e != NULL ? e->line : 0, (int)strcspn(why, "\n"), why));
}

static int
check_document(xmlParserCtxtPtr ctxt, xmlDocPtr doc, const char *root, struct err *err)
{
	const struct bounds *b = bounds_of(ctxt);
	xmlNodePtr top;

	if (b->doctype)
		return (err_set(err, 0, "the XML has a document type, which is not accepted"));
	if (b->nodes > XML_NODES_MAX)
		return (err_set(err, 0, "the XML has more than %u elements and attributes", XML_NODES_MAX));
	if (doc == NULL)
		return (malformed(ctxt, err));
	top = xmlDocGetRootElement(doc);
	if (top == NULL || top->ns != NULL || strcmp((const char *)top->name, root) != 0)
		return (err_set(err, 0, "the XML is not a <%s>", root));
	return (0);
}

static void
watch(xmlParserCtxtPtr ctxt)
{
	xmlSAXHandlerPtr sax = ctxt->sax;

	sax->internalSubset = on_doctype;
	sax->startElementNs = on_element;
	sax->comment = on_comment;
	sax->processingInstruction = on_instruction;
	sax->cdataBlock = on_cdata;
}

xmlDocPtr
xml_doc_parse(const char *xml, size_t len, const char *root, struct err *err)
{
	struct bounds b = { 0, false };
	xmlParserCtxtPtr ctxt;
	xmlDocPtr doc = NULL;

	pthread_once(&once, xmlInitParser);
	if (len == 0 || len > XML_DOC_MAX) {
		err_set(err, 0, len == 0 ? "the XML is empty" : "the XML is larger than %zu bytes", XML_DOC_MAX);
		return (NULL);
	}
	if ((ctxt = xmlNewParserCtxt()) == NULL) {
		err_nomem(err);
		return (NULL);
	}
	ctxt->_private = &b;
	watch(ctxt);
	doc = xmlCtxtReadMemory(ctxt, xml, (int)len, NULL, "UTF-8", XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (check_document(ctxt, doc, root, err) == -1) {
		xmlFreeDoc(doc);
		doc = NULL;
	}
	xmlFreeParserCtxt(ctxt);
	return (doc);
}

int
xml_doc_write(xmlDocPtr doc, struct buf *out, struct err *err)
{
	xmlBufferPtr b = xmlBufferCreate();
	xmlSaveCtxtPtr save = b != NULL ? xmlSaveToBuffer(b, "UTF-8", XML_SAVE_NO_DECL) : NULL;
	bool saved = save != NULL && xmlSaveDoc(save, doc) != -1;
	int rc;

	if (save != NULL && xmlSaveClose(save) == -1)
		saved = false;
	rc = saved ? buf_add(out, xmlBufferContent(b), (size_t)xmlBufferLength(b), err) : err_nomem(err);
	xmlBufferFree(b);
	return (rc);
}

static xmlNodePtr
find(xmlNodePtr n, const char *name)
{
	while (n != NULL && (n->type != XML_ELEMENT_NODE || n->ns != NULL || strcmp((const char *)n->name, name) != 0))
		n = n->next;
	return (n);
}

xmlNodePtr
xml_first(xmlNodePtr parent, const char *name)
{
	return (parent != NULL ? find(parent->children, name) : NULL);
}

xmlNodePtr
xml_next(xmlNodePtr n, const char *name)
{
	return (find(n->next, name));
}

int
xml_only(xmlNodePtr parent, const char *name, xmlNodePtr *out, struct err *err)
{
	*out = xml_first(parent, name);
	if (*out != NULL && xml_next(*out, name) != NULL)
		return (err_set(err, 0, "the XML has more than one <%s> in its <%s>", name, (const char *)parent->name));
	return (0);
}

bool
xml_attribute_is(xmlNodePtr n, const char *name, const char *value)
{
	xmlChar *v = n != NULL ? xmlGetNoNsProp(n, (const xmlChar *)name) : NULL;
	bool is = v != NULL && strcmp((const char *)v, value) == 0;

	xmlFree(v);
	return (is);
}

/* A copy of libxml2's string, which is freed, from ${start} on. */
static int
take(xmlChar *v, size_t start, size_t len, const char *name, char **out, struct err *err)
{
	int rc = 0;

	*out = NULL;
	if (len > XML_TEXT_MAX)
		rc = err_set(err, 0, "the XML has a \"%s\" of more than %zu bytes", name, XML_TEXT_MAX);
	else if (len > 0 && (*out = strndup((const char *)v + start, len)) == NULL)
		rc = err_nomem(err);
	xmlFree(v);
	return (rc);
}

int
xml_attribute(xmlNodePtr n, const char *name, char **out, struct err *err)
{
	xmlChar *v = n != NULL ? xmlGetNoNsProp(n, (const xmlChar *)name) : NULL;

	return (take(v, 0, v != NULL ? strlen((const char *)v) : 0, name, out, err));
}

int
xml_text(xmlNodePtr n, char **out, struct err *err)
{
	xmlChar *v = n != NULL ? xmlNodeGetContent(n) : NULL;
	size_t start = v != NULL ? strspn((const char *)v, SPACE) : 0, len = v != NULL ? strlen((const char *)v + start) : 0;

	while (len > 0 && strchr(SPACE, v[start + len - 1]) != NULL)
		len--;
	return (take(v, start, len, n != NULL ? (const char *)n->name : "", out, err));
}

int
xml_set_attribute(xmlNodePtr n, const char *name, const char *value, struct err *err)
{
	return (xmlSetProp(n, (const xmlChar *)name, (const xmlChar *)value) == NULL ? err_nomem(err) : 0);
}

/* Not xmlNodeSetContent(), which takes an ampersand for an entity. */
int
xml_set_text(xmlNodePtr n, const char *text, struct err *err)
{
	xmlNodePtr t = xmlNewDocText(n->doc, (const xmlChar *)text), child;

	if (t == NULL)
		return (err_nomem(err));
	while ((child = n->children) != NULL) {
		xmlUnlinkNode(child);
		xmlFreeNode(child);
	}
	xmlAddChild(n, t);
	return (0);
}

static bool
is_blank(xmlNodePtr n)
{
	return (n != NULL && n->type == XML_TEXT_NODE && xmlIsBlankNode(n));
}

xmlNodePtr
xml_add(xmlNodePtr parent, xmlNodePtr before, const char *name, struct err *err)
{
	xmlNodePtr n = xmlNewDocNode(parent->doc, NULL, (const xmlChar *)name, NULL), space = NULL;

	if (n == NULL)
		goto nomem;
	/* Where an element stands on a line of its own, the new one does too, and as far to the right. */
	if (is_blank(parent->children) && (space = xmlCopyNode(parent->children, 0)) == NULL)
		goto nomem;
	if (before == NULL)
		before = is_blank(parent->last) && parent->last != parent->children ? parent->last : NULL;
	else if (is_blank(before->prev))
		before = before->prev;
	if (before == NULL) {
		if (space != NULL)
			xmlFreeNode(space);
		return (xmlAddChild(parent, n));
	}
	/* The element first: two texts side by side would become one. */
	xmlAddPrevSibling(before, n);
	if (space != NULL)
		xmlAddPrevSibling(n, space);
	return (n);
nomem:
	xmlFreeNode(n);
	err_nomem(err);
	return (NULL);
}

/* White space would be read as blanks in an attribute; NULL: as it is. */
static const char *
escaped(char c)
{
	switch (c) {
	case '&':
		return ("&amp;");
	case '<':
		return ("&lt;");
	case '>':
		return ("&gt;");
	case '\'':
		return ("&apos;");
	case '"':
		return ("&quot;");
	case '\t':
		return ("&#9;");
	case '\n':
		return ("&#10;");
	case '\r':
		return ("&#13;");
	default:
		return (NULL);
	}
}

int
xml_escape(struct buf *b, const char *text, struct err *err)
{
	for (; *text != '\0'; text++) {
		const char *as = escaped(*text);

		if (buf_add(b, as != NULL ? as : text, as != NULL ? strlen(as) : 1, err) == -1)
			return (-1);
	}
	return (0);
}

void
xml_remove(xmlNodePtr n)
{
	xmlNodePtr space;

	if (n == NULL)
		return;
	space = n->prev;
	if (is_blank(space)) {
		xmlUnlinkNode(space);
		xmlFreeNode(space);
	}
	xmlUnlinkNode(n);
	xmlFreeNode(n);
}

bool
xml_remove_all(xmlNodePtr parent, const char *name)
{
	xmlNodePtr n;
	bool any = false;

	while ((n = xml_first(parent, name)) != NULL) {
		xml_remove(n);
		any = true;
	}
	return (any);
}

void
xml_remove_attribute(xmlNodePtr n, const char *name)
{
	xmlAttrPtr a = n != NULL ? xmlHasNsProp(n, (const xmlChar *)name, NULL) : NULL;

	if (a != NULL)
		xmlRemoveProp(a);
}
