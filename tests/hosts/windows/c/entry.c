/* python3.dll holds nothing but forwards of the stable ABI to python312.dll. */
int __stdcall DllMainCRTStartup(void *instance, unsigned reason, void *reserved)
{
    return 1;
}
