/* What is published of an event, cut around its JSON; the same as EventEncoder.encode in
 * event_agent/protocol/events.py, which says why it may be cut so. */

#include "quick.h"

/* Where the parts of an event are that are needed; 0 if it has not the usual shape. */
typedef struct {
    Text name, place, stamp, core, sequence, unique; /* `name`: with all that stands before it */
} Parts;

/* Bytes of what stands before a value, and within which something is looked for: as in protocol/events.py; a Unique-ID
 * stands some 250 behind the number, farther only behind a channel's name that is a long one. */
enum { STAMP = 25, SEQUENCE = 19, UNIQUE = 14, CORE = 15, WITHIN = 512, UNIQUE_WITHIN = 1024 };

static int look(const char *data, Py_ssize_t size, Py_ssize_t to_stamp, int ids, Parts *parts)
{
    const char *end = data + size, *at, *stop;
    if (size < 16 || data[size - 1] != '}' || to_stamp <= 0)
        return 0;
    const char *quote = memchr(data + 15, '"', (size_t)(size - 15));
    if (!quote || end - quote - STAMP - 16 < to_stamp)
        return 0;
    parts->name = (Text){data, quote - data};
    at = quote + to_stamp;
    parts->stamp = (Text){at + STAMP, 16};
    stop = at + STAMP + 16;
    if (data[at - data + STAMP] < '1' || !all_digits(at + STAMP, stop))
        return 0;
    const char *sequence = find(stop, end - stop < WITHIN + SEQUENCE ? end - stop : WITHIN + SEQUENCE - 1,
                                LITERAL(",\"Event-Sequence\":\""));
    if (!sequence || sequence == stop)
        return 0;
    parts->place = (Text){stop, sequence - stop};
    at = find(sequence, end - sequence < UNIQUE_WITHIN ? end - sequence : UNIQUE_WITHIN, LITERAL(",\"Unique-ID\":\""));
    stop = at ? memchr(at + UNIQUE, '"', (size_t)(end - at - UNIQUE)) : NULL;
    if (!stop || stop == at + UNIQUE || memchr(at + UNIQUE, '\\', (size_t)(stop - at - UNIQUE)))
        return 0;
    parts->unique = (Text){at + UNIQUE, stop - at - UNIQUE};
    if (find(at, end - at < WITHIN ? end - at : WITHIN, LITERAL("\"Presence-Data-Cols\":\"")))
        return 0;
    const char *last = end - 3; /* the last "," of the event */
    while (last > data && memcmp(last, "\",\"", 3) != 0)
        last--;
    if (last <= data || begins(last + 3, end, LITERAL("_body\"")) || !is_ascii(data, size))
        return 0;
    if (ids) {
        at = quote + CORE;
        if (!begins(quote, end, LITERAL("\",\"Core-UUID\":\"")))
            return 0;
        stop = memchr(at, '"', (size_t)(end - at));
        if (!stop || !is_plain(at, stop))
            return 0;
        parts->core = (Text){at, stop - at};
        at = sequence + SEQUENCE;
        stop = memchr(at, '"', (size_t)(end - at));
        if (!stop || !all_digits(at, stop))
            return 0;
        parts->sequence = (Text){at, stop - at};
    }
    return 1;
}

/* One of the next events of this kind is to be looked at for keys that it has twice: 1 if this is not yet the one. */
static int passes(PyObject *kind)
{
    PyObject *doubles = PyObject_GetAttr(kind, known.doubles), *unseen = NULL, *left = NULL;
    int done = -1;
    if (doubles && (unseen = PyObject_GetAttr(kind, known.unseen))) {
        long count = PyLong_AsLong(unseen);
        if (count == -1 && PyErr_Occurred())
            done = -1;
        else if (count <= 0 || !PyTuple_CheckExact(doubles) || PyTuple_GET_SIZE(doubles))
            done = 0;
        else
            done = (left = PyLong_FromLong(count - 1)) && PyObject_SetAttr(kind, known.unseen, left) == 0 ? 1 : -1;
    }
    Py_XDECREF(doubles);
    Py_XDECREF(unseen);
    Py_XDECREF(left);
    return done;
}

/* What is published of an event; NULL without an error if that is not for here. */
static PyObject *cut_of(PyObject *event, PyObject *data, PyObject *kinds, Py_ssize_t to_stamp, PyObject *node, int ids,
                        PyTypeObject *type, PyObject *rules)
{
    Parts parts = {0};
    const char *bytes = PyBytes_AS_STRING(data);
    Py_ssize_t length = PyBytes_GET_SIZE(data);
    if (!look(bytes, length, to_stamp, ids, &parts))
        return NULL;
    PyObject *key = joined(parts.name, (Text){parts.stamp.at - STAMP, STAMP}, parts.place);
    if (!key)
        return NULL;
    PyObject *kind = PyDict_GetItemWithError(kinds, key); /* borrowed, and kept by `kinds` while the GIL is */
    Py_DECREF(key);
    if (!kind)
        return NULL;
    Py_INCREF(kind);
    PyObject *whole = NULL, *unique = NULL, *size = NULL;
    PyObject *carried = rules == Py_None ? Py_NewRef(data) : picked(bytes, length, rules);
    if (!carried || passes(kind) != 1)
        goto out;
    unique = PyBytes_FromStringAndSize(parts.unique.at, parts.unique.size);
    size = PyObject_GetAttr(kind, known.size);
    if (!unique || !size || PyObject_SetAttr(event, known.unique, unique) < 0)
        goto out;
    Py_ssize_t most = PyLong_AsSsize_t(size);
    if (most < 0 && PyErr_Occurred())
        goto out;
    PyObject *pieces[7] = {
        PyObject_GetAttr(kind, known.head), PyBytes_FromStringAndSize(parts.stamp.at, parts.stamp.size),
        Py_NewRef(node), Py_NewRef(unique), Py_NewRef(known.before_json), Py_NewRef(carried), Py_NewRef(known.behind_json),
    };
    PyObject *items[6] = {
        PyObject_GetAttr(kind, known.name), PyObject_GetAttr(kind, known.subject), made(&PyTuple_Type, pieces, 7),
        PyLong_FromSsize_t(most + parts.unique.size + PyBytes_GET_SIZE(carried)),
        ids ? joined(parts.core, (Text){".", 1}, parts.sequence) : Py_NewRef(known.empty), Py_NewRef(data),
    };
    whole = made(type, items, 6);
out:
    Py_DECREF(kind);
    Py_XDECREF(carried);
    Py_XDECREF(unique);
    Py_XDECREF(size);
    return whole;
}

PyObject *quick_cuts(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 9 || !is_sequence(args[0]) || !PyList_Check(args[2]) || !PyDict_Check(args[3])
        || !PyBytes_Check(args[5]) || !is_kind_of_tuple(args[7]) || (args[8] != Py_None && !are_rules(args[8]))) {
        PyErr_SetString(PyExc_TypeError, "cuts(list or tuple, int, list, dict, int, bytes, bool, type of tuple, rules)");
        return NULL;
    }
    Py_ssize_t at = PyLong_AsSsize_t(args[1]), to_stamp = PyLong_AsSsize_t(args[4]);
    int ids = PyObject_IsTrue(args[6]);
    if (PyErr_Occurred())
        return NULL;
    for (; at >= 0 && at < PySequence_Fast_GET_SIZE(args[0]); at++) {
        PyObject *event = Py_NewRef(PySequence_Fast_GET_ITEM(args[0], at)), *data = PyObject_GetAttr(event, known.data);
        PyObject *cut = NULL;
        if (data && PyBytes_CheckExact(data))
            cut = cut_of(event, data, args[3], to_stamp, args[5], ids, (PyTypeObject *)args[7], args[8]);
        Py_DECREF(event);
        Py_XDECREF(data);
        if (!cut) {
            if (PyErr_Occurred())
                return NULL;
            break;
        }
        if (append_and_drop(args[2], cut) < 0)
            return NULL;
    }
    return PyLong_FromSsize_t(at);
}
