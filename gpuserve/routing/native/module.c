/* What costs most of a request that names no model, in a tenth of Python's time: a verdict, as
 * classify.py, tokens.py, marks.py, lexicon.py, model.py and agents.py reach it, and the body of a
 * plain chat request, as body.py, request.py and turns.py read it.
 *
 * They say what is done and why. This does the same, to the last bit, and nothing else:
 * tests/property/test_compiled.py holds it to that. What is rare or long is left to them.
 *
 * A Scan copies its table when it is made and never changes. A call keeps what it finds on its
 * stack, and the work of a verdict is bounded by MOST_BYTES, whatever the text.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "body.h"
#include "load.h"
#include "verdict.h"

static PyMethodDef METHODS[] = {
    {"verdict", Scan_verdict, METH_VARARGS,
     "Return (log-odds of code, reasons) of turns as classify.py prepares them; None: not for us."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_doc, "A table, and what text weighs by it."},
    {Py_tp_new, Scan_new},
    {Py_tp_dealloc, Scan_dealloc},
    {Py_tp_methods, METHODS},
    {0, NULL},
};

static PyType_Spec SPEC = {
    .name = "gpuserve.routing._compiled.Scan",
    .basicsize = sizeof(Scan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = SLOTS,
};

static PyMethodDef FUNCTIONS[] = {
    {"plain_body", plain_body, METH_O, "Return what a plain chat request holds; None: not for us."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    know_characters();
    PyObject *type = PyType_FromSpec(&SPEC);
    int failed = type ? PyModule_AddObjectRef(module, "Scan", type) : -1;
    Py_XDECREF(type);
    return failed;
}

static PyModuleDef_Slot MODULE_SLOTS[] = {
    {Py_mod_exec, fill},
    {0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "gpuserve.routing._compiled",
    .m_doc = "What the modules beside it do, compiled.",
    .m_size = 0,
    .m_methods = FUNCTIONS,
    .m_slots = MODULE_SLOTS,
};

PyMODINIT_FUNC PyInit__compiled(void)
{
    return PyModuleDef_Init(&MODULE);
}
