/* What each event passes, compiled into event_agent._quick: the same as the Python beside its callers, which does what
 * this gives up.
 *
 * Each function looks at bytes objects, which can't change, and makes new objects. It keeps nothing and calls nobody
 * back. What is not exactly as expected is left to the Python, so there are no errors of its own but MemoryError and,
 * for a caller's slip, TypeError. The GIL is held throughout: the longest run is over what one read has brought, some
 * 0.1 ms, with chosen headers 0.3. What each is given and gives: event_agent/quick.py.
 */

#ifndef QUICK_H
#define QUICK_H
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <string.h>

/* frames.c */
PyObject *quick_frames(PyObject *module, PyObject *const *args, Py_ssize_t count);
/* cuts.c */
PyObject *quick_cuts(PyObject *module, PyObject *const *args, Py_ssize_t count);
/* carried.c */
int are_rules(PyObject *rules);
PyObject *picked(const char *data, Py_ssize_t size, PyObject *rules);
/* memory.c */
PyObject *quick_limit_arenas(PyObject *module, PyObject *const *args, Py_ssize_t count);
/* nats.c */
PyObject *quick_pubs(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *quick_hpubs(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *quick_messages(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* Names of attributes, and texts that are in all events; made when the module is imported. */
typedef struct {
    PyObject *data, *unique, *unseen, *doubles, *name, *subject, *head, *size;
    PyObject *subscription, *reply, *headers, *carried, *msg_id, *parts;
    PyObject *before_json, *behind_json, *empty; /* bytes */
} Known;
extern Known known;

#define LITERAL(text) (text), (Py_ssize_t)(sizeof(text) - 1)

typedef struct {
    const char *at;
    Py_ssize_t size;
} Text;

/* Where `what` stands in the `size` bytes from `at` on; NULL if it does not. */
static inline const char *find(const char *at, Py_ssize_t size, const char *what, Py_ssize_t length)
{
    return size < length ? NULL : memmem(at, (size_t)size, what, (size_t)length);
}

static inline int begins(const char *at, const char *end, const char *what, Py_ssize_t length)
{
    return end - at >= length && memcmp(at, what, (size_t)length) == 0;
}

/* A number of 1 to `most` digits; -1 if it is none. `most` is at most 18. */
static inline long long number(const char *at, const char *end, int most)
{
    long long value = 0;
    if (at >= end || end - at > most)
        return -1;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return -1;
        value = value * 10 + (*at - '0');
    }
    return value;
}

static inline int all_digits(const char *at, const char *end)
{
    if (at >= end)
        return 0;
    for (; at < end; at++)
        if (*at < '0' || *at > '9')
            return 0;
    return 1;
}

/* Letters, digits and -, at least one of them no - (as bytes.isalnum() without the -). */
static inline int is_plain(const char *at, const char *end)
{
    int found = 0;
    for (; at < end; at++) {
        char c = *at;
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            found = 1;
        else if (c != '-')
            return 0;
    }
    return found;
}

static inline int is_ascii(const char *at, Py_ssize_t size)
{
    unsigned long long seen = 0, word;
    for (; size >= 8; at += 8, size -= 8) {
        memcpy(&word, at, 8);
        seen |= word;
    }
    for (; size > 0; at++, size--)
        seen |= (unsigned char)*at;
    return !(seen & 0x8080808080808080ULL);
}

/* A tuple, or an instance of a subclass of it that has no attributes of its own. Takes over all `items`, also if it
 * fails; NULL with an error if one of them is. */
static inline PyObject *made(PyTypeObject *type, PyObject **items, Py_ssize_t count)
{
    PyObject *whole = NULL;
    Py_ssize_t missing = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        missing += items[i] == NULL;
    if (!missing)
        whole = type->tp_alloc(type, count);
#if PY_VERSION_HEX >= 0x030E0000
    if (whole)
        ((PyTupleObject *)whole)->ob_hash = -1; /* not known yet */
#endif
    for (Py_ssize_t i = 0; i < count; i++) {
        if (whole)
            PyTuple_SET_ITEM(whole, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    return whole;
}

/* A place in something; -1 with an error if it is none. */
static inline Py_ssize_t position(PyObject *number)
{
    Py_ssize_t pos = PyLong_AsSsize_t(number);
    if (pos >= 0)
        return pos;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "pos is negative");
    return -1;
}

/* What PySequence_Fast_GET_ITEM takes. */
static inline int is_sequence(PyObject *object)
{
    return PyList_Check(object) || PyTuple_Check(object);
}

static inline int is_kind_of_tuple(PyObject *type)
{
    return PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type);
}

static inline int append_and_drop(PyObject *list, PyObject *item)
{
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

static inline PyObject *joined(Text a, Text b, Text c)
{
    PyObject *whole = PyBytes_FromStringAndSize(NULL, a.size + b.size + c.size);
    if (whole) {
        char *to = PyBytes_AS_STRING(whole);
        memcpy(to, a.at, (size_t)a.size);
        memcpy(to + a.size, b.at, (size_t)b.size);
        memcpy(to + a.size + b.size, c.at, (size_t)c.size);
    }
    return whole;
}

#endif
