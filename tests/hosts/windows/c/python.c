/* python.exe: what CPython's Programs/python.c is. */
int Py_Main(int argc, unsigned short **argv);

int wmain(int argc, unsigned short **argv)
{
    return Py_Main(argc, argv);
}
