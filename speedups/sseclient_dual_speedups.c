/* The compiled core of sseclient_dual: the hot paths of the package, see sseclient_dual/speedups.py.

Each class here is the base of the Python class of the same name. It stores the attributes that the hot paths use. The
decorator `compiled` removes the methods of the Python class that its base has, too. Those here handle the common cases,
and leave all others to Python methods: only Python code decides what is an error.

All of this runs with the GIL held. Only the limited API is used, so that one binary serves all CPython versions. */

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030A0000
#endif
#include <Python.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>

#define VERSION "0.2.0" /* the only place; setup.py reads it */

#define ATTRIBUTE(type, field, name) {name, T_OBJECT_EX, offsetof(type, field), 0, NULL}

/* Set a reference that this object owns; takes over the reference to `value`. */
static void
replace(PyObject **target, PyObject *value)
{
    PyObject *previous = *target;
    *target = value;
    Py_XDECREF(previous);
}

/* Call a Python method. Its name is interned, because each new string takes a place in the cache of the interpreter. */
static PyObject *
call_python(PyObject *self, const char *method, PyObject *argument)
{
    PyObject *result, *name = PyUnicode_InternFromString(method);
    if (name == NULL)
        return NULL;
    result = PyObject_CallMethodObjArgs(self, name, argument, NULL);
    Py_DECREF(name);
    return result;
}

/* Objects of this module consist of references, all of which may be NULL. */
#define REFERENCES(type) ((sizeof(type) - sizeof(PyObject)) / sizeof(PyObject *))

static int
clear(PyObject *self, size_t count)
{
    for (PyObject **reference = (PyObject **)(self + 1); count > 0; count--, reference++)
        Py_CLEAR(*reference);
    return 0;
}

static int
traverse(PyObject *self, size_t count, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (PyObject **reference = (PyObject **)(self + 1); count > 0; count--, reference++)
        Py_VISIT(*reference);
    return 0;
}

/* The type may be a subclass. */
static void
dealloc(PyObject *self, size_t count)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc free_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    clear(self, count);
    free_memory(self);
    Py_DECREF(type);
}

#define WITHOUT_GC(name, type) \
    static void name##_dealloc(PyObject *self) { dealloc(self, REFERENCES(type)); }

#define WITH_GC(name, type) \
    static int name##_clear(PyObject *self) { return clear(self, REFERENCES(type)); } \
    static int name##_traverse(PyObject *self, visitproc visit, void *arg) \
    { \
        return traverse(self, REFERENCES(type), visit, arg); \
    } \
    static void name##_dealloc(PyObject *self) \
    { \
        PyObject_GC_UnTrack(self); \
        dealloc(self, REFERENCES(type)); \
    }

/* --- SSEEvent ---------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *data;
    PyObject *meta;
} Event;

static PyObject *
event_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(options))
{
    return PyType_GenericAlloc(type, 0);
}

WITHOUT_GC(event, Event)

/* Return True for the type of an event, or of a subclass: they inherit `__new__`. */
static int
is_event_type(PyTypeObject *type)
{
    return PyType_GetSlot(type, Py_tp_new) == (void *)event_new;
}

/* Return an item of the metadata; `closure` points to its index. */
static PyObject *
event_get_meta(Event *self, void *closure)
{
    PyObject *item;
    if (self->meta == NULL || !PyTuple_Check(self->meta)) {
        PyErr_SetString(PyExc_AttributeError, "_meta");
        return NULL;
    }
    item = PyTuple_GetItem(self->meta, *(Py_ssize_t *)closure);
    Py_XINCREF(item);
    return item;
}

static PyObject *
event_get_type(Event *self, void *closure)
{
    PyObject *type = event_get_meta(self, closure);
    int is_set = type == NULL ? -1 : PyObject_IsTrue(type);
    if (is_set)
        return is_set < 0 ? (Py_XDECREF(type), NULL) : type;
    Py_DECREF(type);
    return PyUnicode_InternFromString("message");
}

static Py_ssize_t meta_index[] = {0, 1, 2, 3, 4};

static PyMemberDef event_members[] = {
    ATTRIBUTE(Event, data, "_data"),
    ATTRIBUTE(Event, meta, "_meta"),
    {"data", T_OBJECT_EX, offsetof(Event, data), READONLY, "The event's data lines, joined with line feeds."},
    {0},
};

static PyGetSetDef event_getset[] = {
    {"event", (getter)event_get_meta, NULL, "The event's type field, None if it is missing or empty.", &meta_index[0]},
    {"id", (getter)event_get_meta, NULL, "The event's own id field, None if it has none.", &meta_index[1]},
    {"retry", (getter)event_get_meta, NULL, "The event's own retry field in milliseconds, or None.", &meta_index[2]},
    {"last_event_id", (getter)event_get_meta, NULL, "The stream's last event ID after this event.", &meta_index[3]},
    {"origin", (getter)event_get_meta, NULL, "Scheme, host and port of the response's URL.", &meta_index[4]},
    {"type", (getter)event_get_type, NULL, "The event's type, \"message\" if the server sent none.", &meta_index[0]},
    {0},
};

static PyType_Slot event_slots[] = {
    {Py_tp_new, event_new},
    {Py_tp_dealloc, event_dealloc},
    {Py_tp_members, event_members},
    {Py_tp_getset, event_getset},
    {0, NULL},
};

static PyType_Spec event_spec = {
    .name = "sseclient_dual_speedups.SSEEvent",
    .basicsize = sizeof(Event),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = event_slots,
};

/* --- EventStreamParser: complete blocks of common fields, in lines that end in LF ------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *event_type;    /* a subclass of the type above, whose instances the parser makes */
    PyObject *plain;         /* the metadata of an event with only a data field */
    PyObject *idle;          /* True if `feed` may use the fast path */
    PyObject *open;          /* True if Python has an unfinished block */
    PyObject *surely_small;  /* the maximum number of bytes for the fast path */
    PyObject *comments;      /* False if comments are not returned */
    PyObject *comments_seen;
    PyObject *ids_seen;
    PyObject *retry;
} Parser;

static PyMemberDef parser_members[] = {
    ATTRIBUTE(Parser, plain, "_plain"),
    ATTRIBUTE(Parser, idle, "_idle"),
    ATTRIBUTE(Parser, open, "_open"),
    ATTRIBUTE(Parser, surely_small, "_surely_small"),
    ATTRIBUTE(Parser, comments, "comments"),
    ATTRIBUTE(Parser, comments_seen, "comments_seen"),
    ATTRIBUTE(Parser, ids_seen, "ids_seen"),
    ATTRIBUTE(Parser, retry, "retry"),
    {0},
};

static PyObject *
parser_get_event_type(Parser *self, void *Py_UNUSED(closure))
{
    PyObject *type = self->event_type == NULL ? Py_None : self->event_type;
    Py_INCREF(type);
    return type;
}

static int
parser_set_event_type(Parser *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !PyType_Check(value) || !is_event_type((PyTypeObject *)value)
        || !(PyType_GetFlags((PyTypeObject *)value) & Py_TPFLAGS_HAVE_GC)) { /* else it could not be untracked */
        PyErr_SetString(PyExc_TypeError, "not the type of an event");
        return -1;
    }
    Py_INCREF(value);
    replace(&self->event_type, value);
    return 0;
}

static PyGetSetDef parser_getset[] = {
    {"_event_type", (getter)parser_get_event_type, (setter)parser_set_event_type, NULL, NULL},
    {0},
};

WITHOUT_GC(parser, Parser)

/* A part of the input; `begin` is NULL if there is none. */
typedef struct {
    const char *begin;
    Py_ssize_t size;
} Span;

/* The fields of a block. */
typedef struct {
    Span event, id, data;   /* `data` is one line, or all of them in `Run.joined` */
    Py_ssize_t data_lines;
    long long retry;        /* -1 if there is none */
    Py_ssize_t comments;
} Block;

/* The state of the parser while it interprets; written back at the end. The references are its own. */
typedef struct {
    PyObject *items;
    PyObject *event_type;
    PyObject *plain;
    PyObject *last_id;      /* newer than that in `plain`, or NULL */
    PyObject *origin;
    PyObject *retry;        /* NULL if there was none */
    PyObject *event;        /* the type field before, as it is often the same: its text, or NULL */
    Span event_span;
    char *joined;           /* for the data of events with several data lines */
    int ids_seen;
    Py_ssize_t comments;
} Run;

static PyObject *
decoded(Span span)
{
    return PyUnicode_DecodeUTF8(span.begin, span.size, "replace");
}

/* Return the part of a line after the name of its field, its colon and a space; none if it is another field. */
static Span
value_of(const char *line, const char *end, const char *name, Py_ssize_t length)
{
    Span none = {NULL, 0};
    if (end - line < length || memcmp(line, name, length) != 0)
        return none;
    line += length;
    if (line < end) {
        if (*line++ != ':')
            return none;
        if (line < end && *line == ' ')
            line++;
    }
    return (Span){line, end - line};
}

/* Return the number, -1 if it is no number or so long that Python has to check it. */
static long long
number_in(Span digits)
{
    long long number = 0;
    if (digits.begin == NULL || digits.size < 1 || digits.size > 15)
        return -1;
    for (Py_ssize_t i = 0; i < digits.size; i++) {
        if (digits.begin[i] < '0' || digits.begin[i] > '9')
            return -1;
        number = 10 * number + (digits.begin[i] - '0');
    }
    return number;
}

/* Add a data line to a block. `left` is the number of bytes from this line to the end of the input. */
static int
add_data(Run *run, Block *block, Span line, Py_ssize_t left)
{
    if (block->data_lines++ == 0) {
        block->data = line;
        return 0;
    }
    if (run->joined == NULL) { /* large enough for this event and for all later ones: they are shorter than the input */
        run->joined = PyMem_Malloc(block->data.size + left);
        if (run->joined == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    if (block->data_lines == 2) {
        memcpy(run->joined, block->data.begin, block->data.size);
        block->data.begin = run->joined;
    }
    run->joined[block->data.size++] = '\n';
    memcpy(run->joined + block->data.size, line.begin, line.size);
    block->data.size += line.size;
    return 0;
}

/* Interpret a line; return 1 if it is one of the common ones, 0 if Python has to do it, -1 with an exception. */
static int
add_line(Parser *self, Run *run, Block *block, const char *line, const char *end, const char *input_end)
{
    Span value;
    switch (*line) {
    case 'd':
        value = value_of(line, end, "data", 4);
        if (value.begin == NULL)
            return 0;
        return add_data(run, block, value, input_end - line) < 0 ? -1 : 1;
    case 'e':
        value = value_of(line, end, "event", 5);
        if (value.begin == NULL)
            return 0;
        block->event = value.size ? value : (Span){NULL, 0};
        return 1;
    case 'i':
        value = value_of(line, end, "id", 2);
        if (value.begin == NULL || memchr(value.begin, '\0', value.size) != NULL)
            return 0;
        block->id = value;
        return 1;
    case 'r':
        block->retry = number_in(value_of(line, end, "retry", 5));
        return block->retry >= 0;
    case ':':
        block->comments++;
        return self->comments == Py_False;
    default:
        return 0;
    }
}

/* Return the type field of a block as a new reference. */
static PyObject *
event_field(Run *run, Span event)
{
    if (event.begin == NULL)
        Py_RETURN_NONE;
    if (run->event == NULL || event.size != run->event_span.size
        || memcmp(event.begin, run->event_span.begin, event.size) != 0) {
        PyObject *text = decoded(event);
        if (text == NULL)
            return NULL;
        replace(&run->event, text);
        run->event_span = event;
    }
    Py_INCREF(run->event);
    return run->event;
}

/* Make `plain` contain the last event ID. */
static int
renew_plain(Run *run)
{
    if (run->last_id != NULL) {
        PyObject *plain = PyTuple_Pack(5, Py_None, Py_None, Py_None, run->last_id, run->origin);
        if (plain == NULL)
            return -1;
        replace(&run->plain, plain);
        Py_CLEAR(run->last_id);
    }
    return 0;
}

/* Return the metadata of a block's event as a new reference, and make its id the last event ID. */
static PyObject *
metadata(Run *run, Block *block)
{
    PyObject *meta, *event, *last_id, *retry = Py_None;
    int has_retry = block->retry >= 0;
    if (has_retry) {
        PyObject *number = PyLong_FromLongLong(block->retry);
        if (number == NULL)
            return NULL;
        replace(&run->retry, number);
        retry = number; /* borrowed from `run` */
    }
    if (block->id.begin != NULL) {
        PyObject *id = decoded(block->id);
        if (id == NULL)
            return NULL;
        replace(&run->last_id, id);
        run->ids_seen = 1;
    }
    else {
        if (renew_plain(run) < 0)
            return NULL;
        if (block->event.begin == NULL && !has_retry) {
            Py_INCREF(run->plain);
            return run->plain;
        }
    }
    event = event_field(run, block->event);
    if (event == NULL)
        return NULL;
    last_id = block->id.begin != NULL ? run->last_id : PyTuple_GetItem(run->plain, 3);
    meta = PyTuple_Pack(5, event, block->id.begin != NULL ? last_id : Py_None, retry, last_id, run->origin);
    Py_DECREF(event);
    return meta;
}

/* "Dispatch the event": an id takes effect even without data. */
static int
dispatch(Run *run, Block *block)
{
    int failed;
    Event *event;
    PyObject *meta = metadata(run, block);
    run->comments += block->comments;
    if (meta == NULL)
        return -1;
    if (block->data_lines == 0) {
        Py_DECREF(meta);
        return 0;
    }
    event = (Event *)PyType_GenericAlloc((PyTypeObject *)run->event_type, 0);
    if (event == NULL) {
        Py_DECREF(meta);
        return -1;
    }
    PyObject_GC_UnTrack(event); /* text and metadata can be in no cycle */
    event->meta = meta;
    event->data = decoded(block->data);
    failed = event->data == NULL || PyList_Append(run->items, (PyObject *)event) < 0;
    Py_DECREF(event);
    return failed ? -1 : 0;
}

/* Interpret blocks; return the position of the first one that is unfinished or has an uncommon line. */
static const char *
interpret_blocks(Parser *self, Run *run, const char *position, const char *end)
{
    while (position < end) {
        Block block = {.retry = -1};
        const char *line = position;
        while (line < end && *line != '\n') {
            const char *line_end = memchr(line, '\n', end - line);
            int known;
            if (line_end == NULL)
                return position;
            known = add_line(self, run, &block, line, line_end, end);
            if (known <= 0)
                return known < 0 ? NULL : position;
            line = line_end + 1;
        }
        if (line == end)
            return position;
        if (dispatch(run, &block) < 0)
            return NULL;
        position = line + 1;
    }
    return position;
}

/* Write the state of `run` back. */
static int
save(Parser *self, Run *run)
{
    if (renew_plain(run) < 0)
        return -1;
    if (run->comments) {
        PyObject *count = PyLong_FromSsize_t(run->comments);
        PyObject *sum = count == NULL ? NULL : PyNumber_Add(self->comments_seen, count);
        Py_XDECREF(count);
        if (sum == NULL)
            return -1;
        replace(&self->comments_seen, sum);
    }
    Py_INCREF(run->plain);
    replace(&self->plain, run->plain);
    if (run->retry != NULL) {
        Py_INCREF(run->retry);
        replace(&self->retry, run->retry);
    }
    if (run->ids_seen) {
        Py_INCREF(Py_True);
        replace(&self->ids_seen, Py_True);
    }
    return 0;
}

/* Append the items that Python finds in complete lines. */
static int
interpret_in_python(Parser *self, PyObject *items, const char *begin, const char *end)
{
    int failed;
    PyObject *more, *text = decoded((Span){begin, end - begin});
    if (text == NULL)
        return -1;
    more = call_python((PyObject *)self, "_interpret_text", text);
    Py_DECREF(text);
    if (more == NULL)
        return -1;
    failed = PyList_SetSlice(items, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, more) < 0;
    Py_DECREF(more);
    return failed ? -1 : 0;
}

/* Return the end of the first blank line, or the end of the input. */
static const char *
end_of_block(const char *position, const char *end)
{
    while (position < end && *position != '\n') {
        position = memchr(position, '\n', end - position);
        position = position == NULL ? end : position + 1;
    }
    return position < end ? position + 1 : end;
}

/* Interpret complete lines; return the events that they complete. Python has the state of an unfinished block. */
static PyObject *
interpret(Parser *self, const char *position, Py_ssize_t size)
{
    const char *end = position + size;
    PyObject *plain = self->plain;
    Run run = {.items = PyList_New(0)};
    int done = 0;
    if (run.items == NULL)
        return NULL;
    if (self->open == Py_True) {
        const char *block_end = end_of_block(position, end);
        if (interpret_in_python(self, run.items, position, block_end) < 0)
            goto finally;
        position = block_end;
        if (self->open == Py_True) { /* still unfinished, or an error */
            done = 1;
            goto finally;
        }
        plain = self->plain;
    }
    if (plain != NULL && PyTuple_Check(plain) && PyTuple_Size(plain) == 5 && self->event_type != NULL
        && self->comments_seen != NULL) {
        Py_INCREF(plain);
        run.plain = plain;
        run.origin = PyTuple_GetItem(plain, 4);
        Py_INCREF(run.origin);
        run.event_type = self->event_type;
        Py_INCREF(run.event_type);
        position = interpret_blocks(self, &run, position, end);
        if (position == NULL || save(self, &run) < 0)
            goto finally;
    }
    done = position == end || interpret_in_python(self, run.items, position, end) == 0;
finally:
    PyMem_Free(run.joined);
    Py_XDECREF(run.event_type);
    Py_XDECREF(run.plain);
    Py_XDECREF(run.last_id);
    Py_XDECREF(run.origin);
    Py_XDECREF(run.retry);
    Py_XDECREF(run.event);
    if (!done)
        Py_CLEAR(run.items);
    return run.items;
}

static PyObject *
parser_interpret(Parser *self, PyObject *lines)
{
    PyObject *items, *view;
    if (PyBytes_Check(lines))
        return interpret(self, PyBytes_AsString(lines), PyBytes_Size(lines));
    if (!PyByteArray_Check(lines)) {
        PyErr_SetString(PyExc_TypeError, "lines must be bytes or a bytearray");
        return NULL;
    }
    view = PyMemoryView_FromObject(lines); /* while it exists, the bytearray keeps its memory */
    if (view == NULL)
        return NULL;
    items = interpret(self, PyByteArray_AsString(lines), PyByteArray_Size(lines));
    Py_DECREF(view);
    if (items != NULL && PyByteArray_Resize(lines, 0) < 0)
        Py_CLEAR(items);
    return items;
}

static int
is_small(Parser *self, Py_ssize_t size)
{
    int overflow;
    long long limit;
    if (self->surely_small == NULL || !PyLong_Check(self->surely_small))
        return 0;
    limit = PyLong_AsLongLongAndOverflow(self->surely_small, &overflow);
    return overflow > 0 || size <= limit;
}

static PyObject *
parser_feed(Parser *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *data;
    if (count + (names == NULL ? 0 : PyTuple_Size(names)) != 1
        || (count == 0 && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), "data") != 0)) {
        PyErr_SetString(PyExc_TypeError, "feed() takes one argument: data");
        return NULL;
    }
    data = arguments[0];
    if (self->idle == Py_True && PyBytes_CheckExact(data)) {
        const char *text = PyBytes_AsString(data);
        Py_ssize_t size = PyBytes_Size(data);
        if (size && text[size - 1] == '\n' && is_small(self, size) && memchr(text, '\r', size) == NULL)
            return interpret(self, text, size);
    }
    return call_python((PyObject *)self, "_feed", data);
}

#define FEED_DOC \
    "feed($self, data)\n--\n\n" \
    "Parse the next bytes of the response; return the events (and comments) that they complete."

static PyMethodDef parser_methods[] = {
    {"feed", (PyCFunction)(void (*)(void))parser_feed, METH_FASTCALL | METH_KEYWORDS, FEED_DOC},
    {"_interpret", (PyCFunction)parser_interpret, METH_O, NULL},
    {0},
};

static PyType_Slot parser_slots[] = {
    {Py_tp_dealloc, parser_dealloc},
    {Py_tp_members, parser_members},
    {Py_tp_getset, parser_getset},
    {Py_tp_methods, parser_methods},
    {0, NULL},
};

static PyType_Spec parser_spec = {
    .name = "sseclient_dual_speedups.EventStreamParser",
    .basicsize = sizeof(Parser),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = parser_slots,
};

/* --- Chunks: whole chunks without extensions -------------------------------------------------------------------- */

static int
hex_digit(char character)
{
    if (character >= '0' && character <= '9')
        return character - '0';
    character |= 0x20;
    return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

/* Return the end of the chunk that begins at `position`, and its data; NULL if it is cut, unusual or the last one. */
static const char *
whole_chunk(const char *position, const char *end, Span *data)
{
    unsigned long long size = 0;
    const char *digits = position;
    int digit;
    while (position < end && (digit = hex_digit(*position)) >= 0) {
        if (position++ - digits == 15) /* with more digits, the size could be too large for its type */
            return NULL;
        size = size << 4 | digit;
    }
    if (size == 0 || end - position < 4 || (unsigned long long)(end - position - 4) < size)
        return NULL;
    *data = (Span){position + 2, (Py_ssize_t)size};
    if (memcmp(position, "\r\n", 2) != 0 || memcmp(data->begin + size, "\r\n", 2) != 0)
        return NULL;
    return data->begin + size + 2;
}

static PyObject *
chunks_take_whole(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    PyObject *block, *pieces;
    Py_ssize_t start;
    const char *begin, *position, *next, *end;
    Span data;
    if (!PyArg_ParseTuple(arguments, "SnO!", &block, &start, &PyList_Type, &pieces))
        return NULL;
    begin = PyBytes_AsString(block);
    end = begin + PyBytes_Size(block);
    if (start < 0 || start > end - begin) {
        PyErr_SetString(PyExc_ValueError, "the position is outside of the block");
        return NULL;
    }
    for (position = begin + start; (next = whole_chunk(position, end, &data)) != NULL; position = next) {
        PyObject *piece = PyBytes_FromStringAndSize(data.begin, data.size);
        int failed = piece == NULL || PyList_Append(pieces, piece) < 0;
        Py_XDECREF(piece);
        if (failed)
            return NULL;
    }
    return PyLong_FromSsize_t(position - begin);
}

static PyMethodDef chunks_methods[] = {
    {"_take_whole", chunks_take_whole, METH_VARARGS, NULL},
    {0},
};

static PyMemberDef no_members[] = {{0}};

static PyType_Slot chunks_slots[] = {
    {Py_tp_methods, chunks_methods},
    {0, NULL},
};

static PyType_Spec chunks_spec = {
    .name = "sseclient_dual_speedups.Chunks",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = chunks_slots,
};

/* --- Handoff: the items that are ready -------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *ready; /* an iterator */
} Handoff;

WITH_GC(handoff, Handoff)

static PyObject *
handoff_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(options))
{
    return PyType_GenericAlloc(type, 0);
}

static PyMemberDef handoff_members[] = {
    ATTRIBUTE(Handoff, ready, "ready"),
    {0},
};

static PyType_Slot handoff_slots[] = {
    {Py_tp_new, handoff_new},
    {Py_tp_dealloc, handoff_dealloc},
    {Py_tp_traverse, handoff_traverse},
    {Py_tp_clear, handoff_clear},
    {Py_tp_members, handoff_members},
    {0, NULL},
};

static PyType_Spec handoff_spec = {
    .name = "sseclient_dual_speedups.Handoff",
    .basicsize = sizeof(Handoff),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = handoff_slots,
};

/* --- SSEConnection: the next event, if it is ready --------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *handoff; /* an instance of the type above; of another type with a checkpoint */
    PyObject *last;    /* the last event handed to the consumer */
    PyObject *started; /* True while `handoff` may be used */
    PyObject *kept;    /* an event that was taken and could not be returned, else NULL */
    PyObject *next_event_type;
} Connection;

WITH_GC(connection, Connection)

static PyMemberDef connection_members[] = {
    ATTRIBUTE(Connection, handoff, "_handoff"),
    ATTRIBUTE(Connection, last, "_last"),
    ATTRIBUTE(Connection, started, "_started"),
    {0},
};

/* Return a class of this module; `type` is one of its other classes, or a subclass of one. */
static PyObject *
class_of_module(PyTypeObject *type, const char *name)
{
    for (; type != NULL; type = PyType_GetSlot(type, Py_tp_base)) {
        PyObject *module = PyType_GetModule(type);
        if (module != NULL)
            return PyObject_GetAttrString(module, name);
        PyErr_Clear();
    }
    PyErr_BadInternalCall();
    return NULL;
}

static PyObject *
connection_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(options))
{
    Connection *self = (Connection *)PyType_GenericAlloc(type, 0);
    if (self != NULL) {
        self->next_event_type = class_of_module(type, "NextEvent");
        if (self->next_event_type == NULL)
            Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* Take the next event that is ready; return NULL without an exception if there is none. No Python code runs between
   taking an event and returning it, see `Handoff.ready`. */
static PyObject *
take_ready(Connection *self)
{
    PyObject *signal, *ready;
    if (self->started != Py_True || self->handoff == NULL
        || PyType_GetSlot(Py_TYPE(self->handoff), Py_tp_new) != (void *)handoff_new)
        return NULL;
    ready = ((Handoff *)self->handoff)->ready;
    if (ready == NULL || !PyIter_Check(ready))
        return NULL;
    if (self->kept != NULL) {
        signal = self->kept;
        self->kept = NULL;
        return signal;
    }
    Py_INCREF(ready);
    while ((signal = PyIter_Next(ready)) != NULL && !is_event_type(Py_TYPE(signal)))
        Py_DECREF(signal);
    if (signal != NULL) {
        PyObject *previous = self->last;
        Py_INCREF(signal);
        self->last = signal;
        Py_XDECREF(previous);
    }
    Py_DECREF(ready);
    return signal;
}

static PyObject *
connection_next(Connection *self)
{
    PyObject *event = take_ready(self);
    if (event != NULL || PyErr_Occurred())
        return event;
    return call_python((PyObject *)self, "_next", NULL);
}

/* --- NextEvent: what `SSEConnection.__anext__` returns, in place of a coroutine ----------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *connection; /* NULL at the end */
    PyObject *coroutine;  /* waits for an event, NULL if none was needed yet */
} NextEvent;

WITH_GC(next_event, NextEvent)

/* Return the coroutine, borrowed. */
static PyObject *
started_coroutine(NextEvent *self)
{
    if (self->connection == NULL)
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    else if (self->coroutine == NULL)
        self->coroutine = call_python(self->connection, "_anext", NULL);
    return self->coroutine;
}

static PyObject *
connection_anext(Connection *self)
{
    NextEvent *next_event;
    if (self->next_event_type == NULL) { /* the garbage collector has cleared this connection */
        PyErr_SetString(PyExc_RuntimeError, "the connection is being finalized");
        return NULL;
    }
    next_event = (NextEvent *)PyType_GenericAlloc((PyTypeObject *)self->next_event_type, 0);
    if (next_event != NULL) {
        Py_INCREF(self);
        next_event->connection = (PyObject *)self;
    }
    return (PyObject *)next_event;
}

static PyType_Slot connection_slots[] = {
    {Py_tp_new, connection_new},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_traverse, connection_traverse},
    {Py_tp_clear, connection_clear},
    {Py_tp_members, connection_members},
    {Py_tp_iternext, connection_next},
    {Py_am_anext, connection_anext},
    {0, NULL},
};

static PyType_Spec connection_spec = {
    .name = "sseclient_dual_speedups.SSEConnection",
    .basicsize = sizeof(Connection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = connection_slots,
};

static PySendResult
next_event_am_send(NextEvent *self, PyObject *value, PyObject **result)
{
    PySendResult status;
    PyObject *coroutine;
    *result = NULL;
    if (self->coroutine == NULL && self->connection != NULL) {
        if (value != Py_None) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        *result = take_ready((Connection *)self->connection);
        if (*result != NULL || PyErr_Occurred()) {
            next_event_clear((PyObject *)self);
            return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
        }
    }
    coroutine = started_coroutine(self);
    if (coroutine == NULL)
        return PYGEN_ERROR;
    Py_INCREF(coroutine);
    status = PyIter_Send(coroutine, value, result);
    Py_DECREF(coroutine);
    if (status != PYGEN_NEXT)
        next_event_clear((PyObject *)self);
    return status;
}

static PyObject *
next_event_send(NextEvent *self, PyObject *value)
{
    PyObject *result;
    Connection *connection = (Connection *)self->connection;
    Py_XINCREF(connection);
    if (next_event_am_send(self, value, &result) == PYGEN_RETURN) {
        PyErr_SetObject(PyExc_StopIteration, result);
        if (PyErr_ExceptionMatches(PyExc_StopIteration))
            Py_CLEAR(result);
        else { /* no memory for it */
            replace(&connection->kept, result);
            result = NULL;
        }
    }
    Py_XDECREF(connection);
    return result;
}

static PyObject *
next_event_next(NextEvent *self)
{
    return next_event_send(self, Py_None);
}

static PyObject *
call_coroutine(NextEvent *self, const char *method, PyObject *arguments)
{
    PyObject *result = NULL, *function, *coroutine = started_coroutine(self);
    if (coroutine == NULL)
        return NULL;
    function = PyObject_GetAttrString(coroutine, method);
    if (function != NULL)
        result = PyObject_Call(function, arguments, NULL);
    Py_XDECREF(function);
    return result;
}

static PyObject *
next_event_throw(NextEvent *self, PyObject *arguments)
{
    PyObject *result = call_coroutine(self, "throw", arguments);
    if (result == NULL)
        next_event_clear((PyObject *)self);
    return result;
}

static PyObject *
next_event_close(NextEvent *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *result, *arguments;
    if (self->coroutine == NULL) {
        next_event_clear((PyObject *)self);
        Py_RETURN_NONE;
    }
    arguments = PyTuple_New(0);
    result = arguments == NULL ? NULL : call_coroutine(self, "close", arguments);
    Py_XDECREF(arguments);
    if (result != NULL)
        next_event_clear((PyObject *)self);
    return result;
}

static PyObject *
next_event_await(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

static PyMethodDef next_event_methods[] = {
    {"send", (PyCFunction)next_event_send, METH_O, NULL},
    {"throw", (PyCFunction)next_event_throw, METH_VARARGS, NULL},
    {"close", (PyCFunction)next_event_close, METH_NOARGS, NULL},
    {0},
};

static PyType_Slot next_event_slots[] = {
    {Py_tp_dealloc, next_event_dealloc},
    {Py_tp_traverse, next_event_traverse},
    {Py_tp_clear, next_event_clear},
    {Py_tp_iternext, next_event_next},
    {Py_tp_methods, next_event_methods},
    {Py_am_await, next_event_await},
    {Py_am_send, next_event_am_send},
    {0, NULL},
};

static PyType_Spec next_event_spec = {
    .name = "sseclient_dual_speedups.NextEvent",
    .basicsize = sizeof(NextEvent),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = next_event_slots,
};

/* --- the module ------------------------------------------------------------------------------------------------- */

/* Add a base class. Its `__slots__` make its attributes part of the state that is copied and pickled. */
static int
add_type(PyObject *module, PyType_Spec *spec, PyMemberDef *members)
{
    int failed;
    PyObject *names, *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL)
        return -1;
    names = PyList_New(0);
    failed = names == NULL;
    for (; !failed && members->name != NULL && members->flags != READONLY; members++) {
        PyObject *name = PyUnicode_FromString(members->name);
        failed = name == NULL || PyList_Append(names, name) < 0;
        Py_XDECREF(name);
    }
    failed = failed || PyObject_SetAttrString(type, "__slots__", names) < 0
             || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(names);
    Py_DECREF(type);
    return failed ? -1 : 0;
}

static int
module_exec(PyObject *module)
{
    if (add_type(module, &event_spec, event_members) < 0 || add_type(module, &parser_spec, parser_members) < 0
        || add_type(module, &chunks_spec, no_members) < 0 || add_type(module, &handoff_spec, handoff_members) < 0
        || add_type(module, &connection_spec, connection_members) < 0
        || add_type(module, &next_event_spec, no_members) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "version", VERSION);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "sseclient_dual_speedups",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit_sseclient_dual_speedups(void)
{
    return PyModuleDef_Init(&module_def);
}
