# cmake -DROOT=DIR -DLIST=FILE -DHOW=TEXT -DNAMESPACE=NAME -DHEADER=FILE -DOUTPUT=FILE -P build_id.cmake
# Writes the translation unit behind HEADER (quell/base/build_id.h): a hash of the files that LIST names, a line each (their paths below ROOT and
# their contents), and of HOW they are compiled. Leaves OUTPUT alone where nothing has changed, so that nothing is built again.
file(STRINGS ${LIST} files)
list(SORT files)
set(all "${HOW}\n")
foreach(file ${files})
  file(SHA256 ${file} hash)
  file(RELATIVE_PATH name ${ROOT} ${file})
  string(APPEND all "${hash} ${name}\n")
endforeach()
string(SHA256 id "${all}")
string(SUBSTRING ${id} 0 32 id)

set(text "#include \"${HEADER}\"\nnamespace ${NAMESPACE} {\nstd::string_view build_id() { return \"${id}\"; }\n}  // namespace ${NAMESPACE}\n")
set(old "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUTPUT} "${text}")
endif()
