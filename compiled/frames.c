/* The event socket's stream cut into events; the same as event_agent/freeswitch/frames.py, which has its source. */

#include "quick.h"

PyObject *quick_frames(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5 || !PyBytes_Check(args[0]) || !PyList_Check(args[2]) || !is_kind_of_tuple(args[3])) {
        PyErr_SetString(PyExc_TypeError, "frames(bytes, int, list, type of tuple, object)");
        return NULL;
    }
    const char *data = PyBytes_AS_STRING(args[0]);
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]), pos = PyLong_AsSsize_t(args[1]);
    if (pos < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "pos is negative");
        return NULL;
    }
    const char *end = data + size;
    while (pos < size) {
        const char *at = data + pos;
        if (!begins(at, end, LITERAL("Content-Length: ")))
            break;
        at += sizeof("Content-Length: ") - 1;
        const char *line = memchr(at, '\n', (size_t)(end - at < 9 ? end - at : 9));
        long long length = line ? number(at, line, 7) : -1;
        if (length < 0 || !begins(line, end, LITERAL("\nContent-Type: text/event-json\n\n")))
            break;
        at = line + sizeof("\nContent-Type: text/event-json\n\n") - 1;
        if (length > end - at)
            break;
        PyObject *items[2] = {Py_NewRef(args[4]), PyBytes_FromStringAndSize(at, (Py_ssize_t)length)};
        if (append_and_drop(args[2], made((PyTypeObject *)args[3], items, 2)) < 0)
            return NULL;
        pos = at + length - data;
    }
    return PyLong_FromSsize_t(pos);
}
