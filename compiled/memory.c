/* How many arenas Python's own allocator may have; see event_agent/runtime/memory.py.
 *
 * One of them is given back only when all of it is free, and a few objects that live on pin each. Where Python gets no
 * further one it takes what it needs from the C library (obmalloc.c, _PyObject_Malloc), which gives back by the page. */

#include "quick.h"

static PyObjectArenaAllocator python;
static Py_ssize_t count, most;

/* Bytes; what is of another size is a piece of a thread's stack of frames (pystate.c, push_chunk). Such a piece has
 * 16 kB, and this size only for one frame of more than 64,000 variables, which no function here comes near. */
static const size_t ARENA = sizeof(void *) > 4 ? 1 << 20 : 1 << 18;

static void *get(void *context, size_t size)
{
    if (size == ARENA && count >= most)
        return NULL;
    void *at = python.alloc(python.ctx, size);
    count += at != NULL && size == ARENA;
    return at;
}

static void give_back(void *context, void *at, size_t size)
{
    count -= size == ARENA;
    python.free(python.ctx, at, size);
}

PyObject *quick_limit_arenas(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t more = nargs == 1 ? PyLong_AsSsize_t(args[0]) : -1;
    if (more < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "limit_arenas(a number that is not negative)");
        return NULL;
    }
    if (!python.alloc) {
        PyObject_GetArenaAllocator(&python);
        PyObject_SetArenaAllocator(&(PyObjectArenaAllocator){NULL, get, give_back});
    }
    most = count + (more < 65536 ? more : 65536);
    Py_RETURN_NONE;
}
